"""The training loop, on Lightning Fabric.

Whatever is random at a step follows from the recipe's seed and the step's number alone, and the
order of the images from the seed and the epoch's. So a run that is killed and resumed ends with the
weights of one that was not, bit by bit on a CPU; and several processes that share a batch draw what
one process draws for all of it.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from fovigraph._checks import flag, path_of, shown
from fovigraph._compose import write_yaml
from fovigraph.config import FoviConfig, load_config, to_dict
from fovigraph.models import Calibration, FoviNet
from fovigraph.models.card import model_card
from fovigraph.models.fovinet import check_fovinet, class_names_of
from fovigraph.models.pretrained import checked_weights, misfits, refusal
from fovigraph.nn.norm import BatchNorm
from fovigraph.train import checkpoint
from fovigraph.train.average import Average
from fovigraph.train.batch_norms import fewest_images
from fovigraph.train.batches import Batch, Batches
from fovigraph.train.calibrate import calibrate
from fovigraph.train.classes import listed, match_classes, with_classes
from fovigraph.train.data import open_data
from fovigraph.train.images import BrokenImage
from fovigraph.train.inputs import open_inputs, with_batch_of
from fovigraph.train.interrupt import Interrupted, StopSignal
from fovigraph.train.knn import knn_accuracy
from fovigraph.train.learner import Draws, Figures, Learner
from fovigraph.train.metrics import CSVFile
from fovigraph.train.optim import learning_rate, make_optimizer, set_learning_rate
from fovigraph.train.processes import Processes
from fovigraph.train.random_numbers import RandomNumbers
from fovigraph.train.recipe import Recipe, check_recipe, network_of
from fovigraph.train.scores import average_precision, mean, need_sklearn, roc_auc
from fovigraph.train.source import DataError, check_source
from fovigraph.train.start import find_start, start_from
from fovigraph.train.tally import Tally, names

log = logging.getLogger(__name__)

KNN_IMAGES = 10_000
"""Training images, at most, whose features the kNN evaluation compares with."""

REMEDY = "try a lower optimizer.learning_rate, optimizer.clip or another train.precision"

BEST = ("knn_accuracy", "test_average_precision", "test_accuracy")
"""Figures by which networks are compared: the first of these that a run has."""

SEVERAL = ("test_roc_auc", "test_average_precision")
"""Figures of the test split where an image may have several classes, means over classes."""

SPEED = ("images_per_second", "waiting")
"""Figures of how fast training was: the second is the fraction of time spent waiting for data."""


class TrainingError(RuntimeError):
    """A run that cannot go on."""


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        epoch: Epochs that are complete, evaluation included.
        batch: Steps done of the epoch that is not.
        step: Steps done in all.
        sums: The training figures summed over these batches, as :class:`Tally` has them; in a
            checkpoint, those of every process.
        window: Likewise, over the steps since the last row of ``metrics.csv``.
        best: The highest accuracy on the test split so far (:data:`BEST`).
        history: What every epoch gave.
        stale: Evaluations since the one with that accuracy.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    sums: list[Any] = field(default_factory=list)
    window: list[Any] = field(default_factory=list)
    best: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)
    stale: int = 0


class Trainer:
    """Trains the network of a recipe.

    Args:
        recipe: The recipe (:func:`fovigraph.train.load_recipe`).
        folder: Where the run is kept: ``recipe.yaml``, ``metrics.csv``, ``checkpoints/`` and,
            written with every checkpoint, the network, as
            :meth:`fovigraph.FoviNet.from_pretrained` reads it. Locked until :meth:`fit` ends, or
            the trainer is gone.
        resume: Go on from the last checkpoint there.
        make_net: Makes the network; ``None``: the recipe's.
        quiet: No progress bar.

    Attributes:
        net: The network.
        progress: How far the run has come.
        recipe: The recipe, with the classes of the data.
        notes: Lines that say which classes there are, whether batches are smaller than the recipe
            says, and what was taken over from another network.
        calibration: After :meth:`fit`, how the network was calibrated.

    Raises:
        DataError: If the data cannot be read, or are not what the recipe is for.
        CheckpointError: If another run is writing to the folder, or it holds a run that is not to
            be resumed, or none that can be.
        FileNotFoundError: If there is no network ``train.start``.
        ValueError, TypeError: If the recipe does not describe a network that can be trained by it
            and saved, or an argument is of another type.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: str | os.PathLike[str],
        *,
        resume: bool = False,
        make_net: Callable[[FoviConfig], FoviNet] | None = None,
        quiet: bool = False,
    ):
        check_recipe("recipe", recipe)
        check_source(recipe.data)
        self.recipe, self.folder = recipe, path_of("folder", folder)
        self.quiet, resume = flag("quiet", quiet), flag("resume", resume)
        if make_net is not None and not callable(make_net):
            raise TypeError(f"make_net must be a function or None, got {shown(make_net)}")
        self.last, self.best = (
            self.folder / "checkpoints" / name for name in ("last.pt", "best.pt")
        )
        # What is wrong with either is said before processes are started.
        self._read_last(resume)
        start = None if resume else recipe.train.start
        self._start = None if start is None else find_start(start)
        self.processes = Processes(recipe, self.folder)
        self.fabric, self.main = self.processes.fabric, self.processes.fabric.is_global_zero
        self.lock = self.processes.lock(self.folder)
        try:
            self._prepare(resume, make_net or FoviNet)
        except BaseException:
            self.lock.release()
            raise

    def _prepare(self, resume: bool, make_net: Callable[[FoviConfig], FoviNet]) -> None:
        """Make network, data and optimiser, and take up the run to go on with."""
        saved = self._read_last(resume)  # again: until now, another run may have been writing
        start, known = self._start, None
        if saved is not None:
            known = saved["recipe"].get("head", {}).get("class_names")
        elif start is not None:
            known = class_names_of(load_config(start / "config.yaml"))
        self.random = RandomNumbers(self.recipe.train.seed)
        self._make_network(make_net)  # what is wrong with it is said before data are read
        several = self.recipe.objective.multi_label
        if several:
            need_sklearn()
        quiet = self.quiet or not self.main
        data = open_data(self.recipe.data, progress=not quiet, multi_label=several)
        classes = match_classes(self.recipe, data.classes, known)
        given = with_classes(self.recipe, classes.names)
        self.recipe = recipe = with_batch_of(given, data.train)
        self.notes, self.calibration = [classes.note], ""
        if recipe is not given:
            self.notes.append(
                f"a batch has {recipe.train.batch_size} images, as there are fewer to learn from "
                f"than train.batch_size={given.train.batch_size}"
            )
        if saved is not None:
            checkpoint.check_unchanged(saved["recipe"], to_dict(recipe))
        made = self.net.config.head
        same = (len(classes.names), several) == (made.num_classes, made.multi_label)
        if not same or recipe is not given:
            self._make_network(make_net)
        self.net.name_classes(classes.names)
        inputs = open_inputs(recipe, self.fabric, data, classes.order)
        self.training, self.testing, self.neighbours, self.held_out = inputs
        self.steps_an_epoch = len(self.training)

        if saved is not None:
            with self._taking_up("weights"):
                if problem := refusal(saved["weights"], self.learner.state_dict()):
                    raise ValueError(f"they {problem}")
                self.learner.load_state_dict(saved["weights"])
        elif start is not None:
            self.notes.append(str(start_from(self.net, start)))
        self.average = None
        if recipe.train.ema is not None:
            self.average = Average(self.learner, recipe.train.ema)
        if saved is not None and self.average is not None:
            with self._taking_up("average"):
                if problems := misfits(saved["average"], self.average.weights):
                    raise ValueError("; ".join(problems[:3]))
                self.average.load(saved["average"])
        scaled = recipe.train.precision == "16-mixed"
        optimizer = make_optimizer(self.learner, recipe.optimizer, scaled=scaled)
        self.wrapped, self.optimizer = self.fabric.setup(self.learner, optimizer)
        self.progress = Progress()
        if saved is not None:
            with self._taking_up("optimizer"):
                self.optimizer.load_state_dict(saved["optimizer"])
            with self._taking_up("scaler"):
                self.processes.load_state_dict(saved["scaler"])
            with self._taking_up("progress"):
                self.progress = Progress(**saved["progress"])
                self.tally.sums += self._own_share(self.progress.sums)
                self.window.sums += self._own_share(self.progress.window)
            begun = self.progress.epoch + (self.progress.batch > 0)
            if recipe.train.epochs < begun:
                raise checkpoint.CheckpointError(
                    f"train.epochs must be at least {begun}, the epochs that the run has begun, "
                    f"got {recipe.train.epochs}"
                )
        if self.main:
            write_yaml(recipe, self.folder / "recipe.yaml")
            step, epoch = self.progress.step, self.progress.epoch
            self.csv = CSVFile(self.folder / "metrics.csv", self._columns(), step, epoch)

    def _make_network(self, make_net: Callable[[FoviConfig], FoviNet]) -> None:
        """Make the network, as the seed says, and what it learns by."""
        recipe = self.recipe
        torch.manual_seed(recipe.train.seed)
        self.net = make_net(network_of(recipe))
        check_fovinet("what make_net returns", self.net)
        if self.net.calibration != Calibration():
            self.net.calibrate(Calibration())  # that of other weights
        for module in self.net.modules():
            if isinstance(module, BatchNorm):
                module.synchronized = self.fabric.world_size > 1
        self.learner = Learner(recipe, self.net)
        self.classifiers = 1 + (0 if self.learner.probes is None else len(self.learner.probes.maps))
        self.tally, self.window = Tally(self.classifiers), Tally(self.classifiers)
        if getattr(type(self.net), "save_pretrained", None) is FoviNet.save_pretrained:
            checked_weights(self.net)  # what cannot be saved is said now, not after training
        self.fewest = fewest_images(recipe, self.net, self.fabric.world_size)

    def fit(self) -> list[dict[str, float]]:
        """Train to the end, calibrate the network on held-out images, and write it.

        Returns:
            What every epoch gave: means of the training figures, those of the test split with
            ``test_`` before their names, ``images_per_second``, and ``waiting``, the fraction of
            the training time spent waiting for data.

        Raises:
            Interrupted: If Ctrl-C or SIGTERM came; a checkpoint was written.
            TrainingError: If the loss is no longer finite (the batch was saved), or a weight is not
                (what was saved before is still there).
            CheckpointError, OSError: If a checkpoint or the network cannot be written.
            DataError: If an image is broken and ``data.strict`` is set, or too few of a batch can
                be read.
        """
        try:
            self._train()
            if self.average is not None:
                self.average.apply()
            if self.main:
                generator = self.random.generator(RandomNumbers.CALIBRATION)
                batches = self.held_out.epoch(0)
                found = calibrate(self.net, batches, generator, progress=not self.quiet)
                self.calibration = found
                self.net.save_pretrained(self.folder)
                (self.folder / "README.md").write_text(self._card(), encoding="utf-8")
            self.fabric.barrier()
        finally:
            self.lock.release()
        return self.progress.history

    @property
    def stopped_early(self) -> bool:
        """Whether ``train.patience`` is at its end."""
        patience = self.recipe.train.patience
        return patience is not None and self.progress.stale >= patience

    @property
    def skipped(self) -> list[BrokenImage]:
        """Broken images that were left out."""
        return [*self.training.skipped, *self.testing.skipped]

    def _train(self) -> None:
        train, progress = self.recipe.train, self.progress
        with StopSignal() as self.stop, self._bar() as self.bar:
            while progress.epoch < train.epochs and not self.stopped_early:
                figures, done = self._epoch(), progress.epoch + 1
                if done % train.eval_every == 0 or done == train.epochs:
                    figures |= self._evaluate()
                self._close_epoch(figures)

    def _epoch(self) -> dict[str, float]:
        """Train for one epoch, or what is left of it, and return its figures."""
        progress, train = self.progress, self.recipe.train
        began, waited, first = time.perf_counter(), self.training.waited, progress.step

        def speed() -> dict[str, float]:
            seconds = time.perf_counter() - began
            images = (progress.step - first) * train.batch_size
            waiting = (self.training.waited - waited) / seconds
            return dict(zip(SPEED, (images / seconds, waiting), strict=True))

        self.wrapped.train()
        for batch in self.training.epoch(progress.epoch, progress.batch):
            step = self._step(batch)
            self.tally.sums += step.sums
            self.window.sums += step.sums
            progress.batch, progress.step = progress.batch + 1, progress.step + 1
            self.bar.update(train.batch_size)
            means = {name: f"{mean:.3f}" for name, mean in self.tally.means().items()}
            self.bar.set_postfix(means, refresh=False)
            if progress.step % train.log_every == 0:
                self._log(self.window.over(self.processes).means() | speed())
                self.window = Tally(self.classifiers)
            if self.processes.any(self.stop.came):
                self._interrupt()
            if train.save_every and progress.step % train.save_every == 0:
                self._save_within_epoch()
        return self.tally.over(self.processes).means() | speed()

    def _step(self, batch: Batch) -> Tally:
        """Change the weights once, by the gradients of a batch, and return its figures."""
        config, step = self.recipe.optimizer, self.progress.step
        steps = self.recipe.train.epochs * self.steps_an_epoch
        warmup = round(config.warmup * self.steps_an_epoch)
        losses = [row["test_loss"] for row in self.progress.history if "test_loss" in row]
        rate = learning_rate(config, step, steps, warmup, self.recipe.train.batch_size, losses)
        set_learning_rate(self.optimizer, rate)
        torch.manual_seed(self.random.seed(RandomNumbers.DROPOUT, step, self.fabric.global_rank))
        shape = (self.recipe.train.batch_size, *batch.images.shape[1:])
        draws = self.learner.draw(shape, self.random.generator(RandomNumbers.DRAWS, step))

        self.optimizer.zero_grad()
        if len(batch.rows) < self.fewest:
            broken = ", ".join(error.name for error in self.training.skipped)
            raise DataError(
                f"step {step} needs at least {self.fewest} images, and only {len(batch.rows)} of "
                f"its batch can be read; broken so far: {broken}"
            )
        parts = range(min(self.recipe.train.accumulate, len(batch.rows) // self.fewest))
        ways = [torch.arange(part, len(batch.rows), len(parts)) for part in parts]
        tally, finite = Tally(self.classifiers), True
        for part, chosen in zip(parts, ways, strict=True):
            images, labels = (
                self.fabric.to_device(x[chosen]) for x in (batch.images, batch.labels)
            )
            with self.fabric.no_backward_sync(self.wrapped, enabled=part + 1 < len(parts)):
                figures = self.wrapped(images, labels, draws.pick(batch.rows[chosen]))
                self.fabric.backward(figures.loss * (len(chosen) / len(batch.rows)))
            finite &= bool(figures.loss.isfinite())
            tally.add(figures, len(chosen))
        if self.processes.any(not finite):
            self._stop_at(batch, draws)
        if config.clip is not None:
            self.fabric.clip_gradients(self.wrapped, self.optimizer, max_norm=config.clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(step)
        return tally

    @torch.no_grad()
    def _evaluate(self) -> dict[str, float]:
        """Return the figures of the test split, looked at in the same places every time."""
        tally, objective = Tally(self.classifiers), self.recipe.objective
        several = [torch.zeros(0, 2, self.recipe.head.num_classes)]  # logits and labels
        self.wrapped.eval()
        with self._averaged():
            for figures, batch in self._figures_of(self.testing):
                tally.add(figures, len(batch.labels))
                if objective.multi_label:
                    logits = figures.logits.float().cpu()
                    several.append(torch.stack((logits, batch.labels.float()), dim=1))
            means = tally.over(self.processes).means("test_")
            if objective.multi_label:
                means |= _scores(self.processes.gather_rows(torch.cat(several)))
            if not objective.supervised:
                means["knn_accuracy"] = self._knn_accuracy()
        return means

    def _averaged(self) -> AbstractContextManager[None]:
        """Return a context in which the weights are their average, if there is one."""
        return nullcontext() if self.average is None else self.average.applied()

    def _figures_of(self, batches: Batches) -> Iterator[tuple[Figures, Batch]]:
        """Yield the figures of every batch, as in evaluation."""
        for index, batch in enumerate(batches.epoch(0)):
            shape = (self.recipe.train.batch_size, *batch.images.shape[1:])
            generator = self.random.generator(RandomNumbers.EVALUATION, index)
            draws = self.learner.draw(shape, generator).pick(batch.rows)
            images, labels = (self.fabric.to_device(x) for x in (batch.images, batch.labels))
            with self.fabric.autocast():
                figures = self.learner(images, labels, draws)
            yield figures, batch
            if self.stop.came and self.fabric.world_size == 1:  # others may have fewer batches
                self._interrupt()

    def _knn_accuracy(self) -> float:
        """Return the accuracy of the kNN classifier on the test images' features."""
        known: list[list[Tensor]] = []
        for batches in self.neighbours:
            features, labels, count = [], [], 0
            for figures, batch in self._figures_of(batches):
                features.append(figures.features.float().mean(dim=1))
                labels.append(batch.labels.to(figures.features.device))
                count += len(batch.labels)
                if count >= KNN_IMAGES:
                    break
            known += [[torch.cat(features), torch.cat(labels)]]
        if not all(features.isfinite().all() for features, _ in known):
            log.warning(
                "no kNN accuracy: after step %d features are not finite", self.progress.step
            )
            return math.nan
        return knn_accuracy(*known[0], *known[1])

    def _close_epoch(self, figures: dict[str, float]) -> None:
        """Note what an epoch gave, and write checkpoints."""
        progress = self.progress
        progress.epoch, progress.batch = progress.epoch + 1, 0
        progress.sums, progress.window = [], []
        self.tally, self.window = Tally(self.classifiers), Tally(self.classifiers)
        progress.history.append({"epoch": progress.epoch, **figures})
        score = next((figures[name] for name in BEST if name in figures), -1.0)
        improved, progress.best = score > progress.best, max(progress.best, score)
        if improved:
            progress.stale = 0
        elif "test_loss" in figures:
            progress.stale += 1
        self._log(figures)
        if improved:
            self._save(self.best)
        self._save(self.last)

    def _save_within_epoch(self) -> None:
        """Write the last checkpoint, with every process's sums over the epoch so far."""
        self.progress.sums = self.processes.gather(self.tally.sums).tolist()
        self.progress.window = self.processes.gather(self.window.sums).tolist()
        self._save(self.last)

    def _save(self, path: Path) -> None:
        """Write a checkpoint; with the last one, the network as it is then."""
        if not self.main:
            return
        weights = self.learner.state_dict() if self.average is None else self.average.trained()
        broken = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
        if broken:
            raise TrainingError(
                f"after step {self.progress.step} there are weights that are not finite: "
                f"{', '.join(broken[:3])}{', …' * (len(broken) > 3)}; what was saved before is "
                f"still there; {REMEDY}"
            )
        content = {
            "recipe": to_dict(self.recipe),
            "weights": weights,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.processes.state_dict(),
            "progress": asdict(self.progress),
        }
        if self.average is not None:
            content["average"] = self.average.weights
        checkpoint.write(content, path)
        if path == self.last:
            with self._averaged():
                self.net.save_pretrained(self.folder)

    def _read_last(self, resume: bool) -> dict[str, Any] | None:
        """Read the checkpoint to go on from, and check the folder, before anything else is done."""
        if resume:
            saved = checkpoint.read(self.last)
            now = to_dict(self.recipe)
            checkpoint.check_unchanged(saved["recipe"], now, checkpoint.OF_DATA)
            return saved
        if self.last.exists():
            raise checkpoint.CheckpointError(
                f"{self.folder} holds a run already: resume it, or choose another folder"
            )
        return None

    @contextmanager
    def _taking_up(self, section: str) -> Iterator[None]:
        """Return a context whose errors name a section of the last checkpoint as their cause."""
        try:
            yield
        except Exception as error:  # torch's loading raises what the damage happens to lead to
            raise checkpoint.CheckpointError(
                f"cannot go on from {self.last}: its {section!r} is not what this run needs "
                f"({type(error).__name__}: {' '.join(str(error).split())})"
            ) from error

    def _own_share(self, sums: Sequence[Any]) -> Tensor:
        """Return this process's own of a checkpoint's sums of every process."""
        every = torch.tensor(sums, dtype=torch.float64)
        return self.processes.share(every.view(-1, len(self.tally.sums)))

    def _interrupt(self) -> None:
        self._save_within_epoch()
        raise Interrupted(f"stopped after step {self.progress.step}, which {self.last} holds")

    def _stop_at(self, batch: Batch, draws: Draws) -> None:
        """Save a batch whose loss is not finite, and stop."""
        path = self.folder / f"not-finite-{self.fabric.global_rank}.pt"
        content = {"batch": batch._asdict(), "weights": self.learner.state_dict()}
        content |= {name: drawn._asdict() for name, drawn in draws._asdict().items()}
        checkpoint.write(content, path)
        raise TrainingError(
            f"the loss of step {self.progress.step} is not finite; {path} holds its batch, what "
            f"was drawn for it and the weights; {REMEDY}"
        )

    def _log(self, figures: dict[str, float]) -> None:
        group = self.optimizer.param_groups[0]
        rate = group["lr"] / group.get("scale", 1.0)
        row = {"epoch": self.progress.epoch, "learning_rate": rate, **figures}
        if self.main:
            self.csv.write(self.progress.step, row)
        self.fabric.log_dict(row, step=self.progress.step)

    def _columns(self) -> list[str]:
        objective = self.recipe.objective
        more = [] if objective.supervised else ["knn_accuracy"]
        more += SEVERAL if objective.multi_label else ()
        figures = [*names(self.classifiers), *SPEED, *names(self.classifiers, "test_"), *more]
        return ["epoch", "learning_rate", *figures]

    def _bar(self) -> tqdm[Any]:
        """Return a progress bar over all images of all epochs."""
        train = self.recipe.train
        return tqdm(
            total=train.epochs * self.steps_an_epoch * train.batch_size,
            initial=self.progress.step * train.batch_size,
            unit=" images",
            disable=self.quiet or not self.main,
            mininterval=0.5 if sys.stderr.isatty() else 30,
            dynamic_ncols=True,
        )

    def _card(self) -> str:
        recipe, last = self.recipe, self.progress.history[-1]
        facts = {
            name.replace("_", " "): f"{last[name]:.1%}"
            for name in ("test_accuracy", "knn_accuracy", *SEVERAL)
            if name in last
        }
        about = {"objective": recipe.objective.name, "epochs": str(recipe.train.epochs), **facts}
        about |= {"class names": listed(self.net.class_names), "calibration": self.calibration}
        if recipe.train.start is not None:
            about["started from"] = recipe.train.start
        return model_card(self.net, self.folder.name, f"trained on {recipe.data.source}", about)


def _scores(several: Tensor) -> dict[str, float]:
    """Return the means over classes of :data:`SEVERAL`, from logits and labels ``[N, 2, C]``."""
    logits, labels = several[:, 0], several[:, 1] > 0
    scores = mean(roc_auc(logits, labels)), mean(average_precision(logits, labels))
    return {
        name: math.nan if score is None else score
        for name, score in zip(SEVERAL, scores, strict=True)
    }
