"""The schema of a training recipe: a network's configuration, and how it is trained."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from fovigraph._checks import (
    fraction,
    one_of,
    path_of,
    positive_float,
    positive_int,
    positive_range,
    shown,
)
from fovigraph._compose import Layer, compose, read, stated, to_dict
from fovigraph._schema import Section, keys
from fovigraph.config import FoviConfig, load_config
from fovigraph.train.start import find_start

OBJECTIVES = ("classify", "multi_label", "simclr", "vicreg", "barlow_twins")
OPTIMIZERS = ("adamw", "sgd", "lars")
SCHEDULES = ("cosine", "constant", "plateau")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
LOGGERS = ("tensorboard", "wandb")


@dataclass(frozen=True)
class DataConfig(Section):
    """What to learn from.

    Attributes:
        source: Must be given: ``"digits"`` (handwritten digits in cluttered scenes, which come with
            scikit-learn); a folder with a subfolder of images for every class (or with ``train/``
            and ``test/`` or ``val/`` that have them); a parquet file, or a folder of them
            (``train*.parquet``, ``test*.parquet``); or the id of a dataset on the Hugging Face
            Hub. Of the latter two, ``datasets`` keeps a copy in its own cache. For
            ``objective.name=multi_label``, a folder has a list of its images and their labels,
            ``metadata.csv`` or ``metadata.jsonl`` (:mod:`fovigraph.train.metadata`).
        subset: Which configuration of a dataset on the Hub, if it has several.
        size: Images are brought to ``size``² pixels: the shorter side resized, the middle kept.
        train_split: Name of the training split; ``None``: ``"train"``.
        test_split: Name of the split to evaluate on; ``None``: the first there is of ``"test"``,
            ``"validation"`` and ``"val"``.
        image_column: Column of the images; ``None``: the only one that holds images.
        label_column: Column of the labels; ``None``: the only one that holds class labels, or else
            ``"label"``. For ``objective.name=multi_label``, the only one that holds lists of class
            labels, names or integers, or else ``"labels"``.
        holdout: Fraction of the training images to evaluate on if there is no test split.
        streaming: Read the images of parquet files or of the Hub as they come, without an index or
            a copy; order is shuffled in a buffer.
        shuffle_buffer: Images in that buffer.
        workers: Processes that read and decode; 0 reads in the main process. (A stream is read by
            one process with so many threads.)
        memory: A split whose decoded images take up to so many gigabytes is kept in memory.
        strict: Whether a broken image is an error; otherwise it is skipped and counted. (Always an
            error in self-supervised training in several processes.)
        set_classes: Whether the network gets the number and the names of the data's classes where
            the configuration has others; otherwise that is an error. An override of
            ``head.num_classes`` or ``head.class_names`` makes it false.
    """

    SECTION = "data"

    source: str | None = None
    subset: str | None = None
    size: int = 64
    train_split: str | None = None
    test_split: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    holdout: float = 0.1
    streaming: bool = False
    shuffle_buffer: int = 10_000
    workers: int = 2
    memory: float = 1.0
    strict: bool = False
    set_classes: bool = True

    def check(self) -> None:
        if self.source == "":
            raise ValueError("data.source must name a folder, a file or a dataset, got ''")
        positive_int("data.size", self.size)
        positive_int("data.shuffle_buffer", self.shuffle_buffer)
        if not 0 < self.holdout < 1:
            raise ValueError(f"data.holdout must be above 0 and below 1, got {self.holdout}")
        if self.workers < 0:
            raise ValueError(f"data.workers must be at least 0, got {self.workers}")
        if self.memory < 0:
            raise ValueError(f"data.memory must be at least 0, got {self.memory}")


@dataclass(frozen=True)
class AugmentConfig(Section):
    """How training images are varied, on the device.

    Attributes:
        when: ``"before"`` foveation (an image is varied once, whichever way it is looked at) or
            ``"after"`` (every glance is varied by itself; colours only).
        flip: Probability of a mirror image.
        jitter: Probability that colours are changed.
        brightness, contrast, saturation: Factors are drawn from 1 ± this.
        hue: Turns of the colour circle are drawn from ± this.
        grey: Probability that colour is taken away.
        blur: Probability of a Gaussian blur.
        blur_sigma: Its smallest and largest standard deviation, pixels.
    """

    SECTION = "augment"

    when: str = "before"
    flip: float = 0.0
    jitter: float = 0.0
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grey: float = 0.0
    blur: float = 0.0
    blur_sigma: Sequence[float] = (0.1, 2.0)

    def check(self) -> None:
        one_of("augment.when", self.when, ("before", "after"))
        for name in ("flip", "jitter", "brightness", "contrast", "saturation", "grey", "blur"):
            fraction(f"augment.{name}", getattr(self, name))
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"augment.hue must be from 0 to 0.5, got {self.hue}")
        positive_range("augment.blur_sigma", self.blur_sigma)
        if self.when == "after" and (self.flip or self.blur):
            raise ValueError(
                "augment.when must be 'before' for flip and blur, which need an image; "
                "after foveation only colours change"
            )


@dataclass(frozen=True)
class ObjectiveConfig(Section):
    """What is learnt.

    Attributes:
        name: ``"classify"``; ``"multi_label"``, where an image may have several classes or none,
            by the binary cross-entropy of each; or, without labels and with an image's fixations
            as its views, ``"simclr"``, ``"vicreg"`` or ``"barlow_twins"``. Then the head and the
            probes, which do not act on the network, still learn the labels.
        per_fixation: Whether ``classify`` and ``multi_label`` ask every fixation for the classes,
            not their mean.
        label_smoothing: Of ``classify`` and ``multi_label``: a share of each target is spread
            evenly, over all classes or over yes and no.
        temperature: Of ``simclr``.
        invariance, variance, covariance: Weights of the terms of ``vicreg``.
        redundancy: Weight of the off-diagonal term of ``barlow_twins``.
        probes: Whether every layer gets a linear probe, which learns the labels beside the network.
    """

    SECTION = "objective"

    name: str = "classify"
    per_fixation: bool = False
    label_smoothing: float = 0.0
    temperature: float = 0.1
    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    redundancy: float = 0.005
    probes: bool = False

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several classes."""
        return self.name == "multi_label"

    @property
    def supervised(self) -> bool:
        """Whether the network learns the labels."""
        return self.name in ("classify", "multi_label")

    def check(self) -> None:
        one_of("objective.name", self.name, OBJECTIVES)
        fraction("objective.label_smoothing", self.label_smoothing)
        positive_float("objective.temperature", self.temperature)
        for name in ("invariance", "variance", "covariance", "redundancy"):
            positive_float(f"objective.{name}", getattr(self, name))


@dataclass(frozen=True)
class OptimizerConfig(Section):
    """How weights are changed.

    Attributes:
        name: ``"adamw"``, ``"sgd"`` or ``"lars"``.
        learning_rate: The highest, for a whole batch.
        reference_batch: Number of images in the batch that ``learning_rate`` is for: with
            ``train.batch_size`` images it is ``learning_rate · batch_size / reference_batch`` (the
            linear scaling rule, Goyal et al. 2017); ``None``: it is not scaled.
        layer_decay: Factor of the learning rate from one layer to the layer before it: projector
            and head have the whole rate, the backbone's last layer ``layer_decay`` times that, the
            one before it ``layer_decay²`` times, and so on. 1: all have the same.
        weight_decay: Of weights; biases and norms have none.
        momentum: Of ``sgd`` and ``lars``; the first beta of ``adamw``.
        warmup: Epochs over which the learning rate rises linearly from 0.
        schedule: How it goes on after the warm-up: ``"cosine"``, half a cosine down to ``final``;
            ``"constant"``; or ``"plateau"``, multiplied by ``plateau_factor`` whenever the test
            loss has not become lower for more than ``plateau_patience`` evaluations in a row.
        final: What it falls to, along a cosine, as a fraction of the highest.
        plateau_factor: Of ``"plateau"``.
        plateau_patience: Of ``"plateau"``, evaluations.
        clip: Largest norm of the gradients; ``None``: any.
    """

    SECTION = "optimizer"

    name: str = "adamw"
    learning_rate: float = 1e-3
    reference_batch: int | None = None
    layer_decay: float = 1.0
    weight_decay: float = 0.05
    momentum: float = 0.9
    warmup: float = 1.0
    schedule: str = "cosine"
    final: float = 0.0
    plateau_factor: float = 0.1
    plateau_patience: int = 5
    clip: float | None = None

    def check(self) -> None:
        one_of("optimizer.name", self.name, OPTIMIZERS)
        positive_float("optimizer.learning_rate", self.learning_rate)
        one_of("optimizer.schedule", self.schedule, SCHEDULES)
        if not 0 < self.plateau_factor < 1:
            raise ValueError(
                f"optimizer.plateau_factor must be above 0 and below 1, got {self.plateau_factor}"
            )
        if self.plateau_patience < 0:
            raise ValueError(
                f"optimizer.plateau_patience must be at least 0, got {self.plateau_patience}"
            )
        if self.reference_batch is not None:
            positive_int("optimizer.reference_batch", self.reference_batch)
        if not 0 < self.layer_decay <= 1:
            raise ValueError(
                f"optimizer.layer_decay must be above 0, up to 1, got {self.layer_decay}"
            )
        fraction("optimizer.final", self.final)
        for name in ("weight_decay", "warmup"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"optimizer.{name} must be at least 0, got {value}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"optimizer.momentum must be at least 0, below 1, got {self.momentum}")
        if self.clip is not None:
            positive_float("optimizer.clip", self.clip)


@dataclass(frozen=True)
class TrainConfig(Section):
    """How long, on what, and what is written.

    Attributes:
        epochs: Passes over the training images.
        patience: Evaluations in a row without a higher accuracy (of the nearest neighbours, in
            self-supervised training; for ``multi_label``, average precision) after which training
            stops; ``None``: it does not.
        batch_size: Images of one optimiser step, over all processes.
        accumulate: Parts that a process computes its share of a batch in, one after the other.
        precision: ``"32-true"``, ``"bf16-mixed"`` or ``"16-mixed"``.
        accelerator: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        devices: Processes on this machine, each with a GPU of its own where there are GPUs.
        nodes: Machines.
        seed: Of weights, order, fixations and everything else that is random.
        eval_every: Epochs between evaluations; the last one is always followed by one.
        save_every: Steps between checkpoints, which are also written after every epoch; ``None``:
            only then.
        log: Where else figures go than to a CSV file: ``"tensorboard"`` and ``"wandb"``.
        log_every: Steps that one row of training figures is the mean of.
        start: A trained network to start from: its folder, or ``"owner/name"`` on the Hugging Face
            Hub. Weights whose name and shape fit are taken over, those of the head only if the
            classes have the same names. Retina, fixation, backbone, projector and head are
            configured as there where the recipe does not state them. ``None``: random weights.
        freeze: Modules of the network that do not change, as ``backbone`` or ``backbone.layers.0``.
            They stay in evaluation mode: batch norms keep their statistics, dropout is off.
        ema: Decay of an exponential moving average of all weights over the steps, which is what is
            evaluated and saved; after n steps the decay is ``min(ema, (1 + n) / (10 + n))``.
            ``None``: no average.
    """

    SECTION = "train"

    epochs: int = 10
    patience: int | None = None
    batch_size: int = 64
    accumulate: int = 1
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    seed: int = 0
    eval_every: int = 1
    save_every: int | None = None
    log: Sequence[str] = ()
    log_every: int = 20
    start: str | None = None
    freeze: Sequence[str] = ()
    ema: float | None = None

    def check(self) -> None:
        counts = (
            "epochs",
            "batch_size",
            "accumulate",
            "devices",
            "nodes",
            "eval_every",
            "log_every",
        )
        for name in counts:
            positive_int(f"train.{name}", getattr(self, name))
        if self.patience is not None:
            positive_int("train.patience", self.patience)
        one_of("train.precision", self.precision, PRECISIONS)
        one_of("train.accelerator", self.accelerator, ("auto", "cpu", "cuda"))
        if self.save_every is not None:
            positive_int("train.save_every", self.save_every)
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"train.seed must be from 0 to 2**63 - 1, got {self.seed}")
        if self.start == "":
            raise ValueError("train.start must be a folder or owner/name on the Hub, got ''")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"train.ema must be above 0 and below 1, got {self.ema}")
        for name in self.log:
            one_of("train.log", name, LOGGERS)
        parts = self.devices * self.nodes * self.accumulate
        if self.batch_size % parts:
            raise ValueError(
                "train.batch_size must be a multiple of devices · nodes · accumulate = "
                f"{parts}, got {self.batch_size}"
            )


@dataclass(frozen=True)
class Recipe(FoviConfig):
    """A network and how it is trained: the schema of a training recipe."""

    IGNORED = ()

    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def check(self) -> None:
        if not self.objective.supervised and self.fixation.count < 2:
            raise ValueError(
                f"fixation.count must be at least 2 for objective.name={self.objective.name!r}, "
                f"whose views they are, got {self.fixation.count}"
            )
        if not self.objective.supervised and self.train.accumulate > 1:
            raise ValueError(
                f"train.accumulate must be 1 for objective.name={self.objective.name!r}, which "
                f"compares all images of a batch, got {self.train.accumulate}"
            )
        if not self.objective.supervised and self.train.batch_size < 2:
            raise ValueError(
                f"train.batch_size must be at least 2 for objective.name={self.objective.name!r}, "
                f"which compares the images of a batch, got {self.train.batch_size}"
            )


def load_recipe(
    name_or_path: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    run: str | os.PathLike[str] | None = None,
) -> Recipe:
    """Read a training recipe, as :func:`fovigraph.load_config` reads a network's configuration.

    Args:
        name_or_path: A configuration's name or file; what it does not state has its default, or
            what the network ``train.start`` has.
        overrides: As for :func:`fovigraph.load_config`. The data must have the number of classes
            in one, and the names likewise (``data.set_classes``); given either, the other follows.
        run: The folder of a run that is to be resumed, whose recipe then says what the network
            ``train.start`` had, which may be gone; ``None``, or a folder without: that is read.

    Returns:
        The recipe, complete.

    Raises:
        ConfigError: If something cannot be found or read, or does not fit the schema.
        FileNotFoundError: If there is no network ``train.start``, and the recipe does not state
            all that would be taken from it.
    """
    written = read(name_or_path, overrides)
    layers = [*written.files, *_classes_of(written.overrides), *written.overrides]
    start = stated(layers, "train", "start")
    if isinstance(start, str) and start:
        of_run = None if run is None else path_of("run", run) / "recipe.yaml"
        if of_run is not None and of_run.is_file():
            layers = [_of_network(of_run), *layers]
        elif not _states_network(layers, written.where):
            layers = [_of_network(find_start(start) / "config.yaml"), *layers]
    return compose(layers, written.where, Recipe)


def _classes_of(overrides: Sequence[Layer]) -> list[Layer]:
    """Return what follows from a number of classes, or their names, in overrides."""
    number = stated(overrides, "head", "num_classes")
    names = stated(overrides, "head", "class_names")
    if number is None and names is None:
        return []
    follows: dict[str, Any] = {"data": {"set_classes": False}}
    if names is None:
        follows["head"] = {"class_names": None}
    elif number is None and isinstance(names, list):
        follows["head"] = {"num_classes": len(names)}
    return [Layer("overrides", follows)]


def _of_network(path: Path) -> Layer:
    """Return what the configuration of a network states for one that starts from it."""
    return Layer(str(path), _taken_over(load_config(path)))


def _taken_over(config: FoviConfig) -> dict[str, Any]:
    content = to_dict(config)
    content["head"] = {"dropout": content["head"]["dropout"]}  # the rest belongs to its classes
    return content


def _states_network(layers: Sequence[Layer], where: str) -> bool:
    """Whether layers state all that would be taken from another network, as a run's recipe does."""
    wanted = _taken_over(network_of(compose(layers, where, Recipe)))
    return set(keys(wanted)) <= set(keys(stated(layers)))


def check_recipe(name: str, value: Any) -> None:
    """Check that a value is a training recipe.

    Raises:
        TypeError: If it is not, with ``name``.
    """
    if not isinstance(value, Recipe):
        raise TypeError(
            f"{name} must be a training recipe, as load_recipe reads it, got {shown(value)}"
        )


def network_of(recipe: Recipe) -> FoviConfig:
    """Return the network's part of a recipe.

    Raises:
        TypeError: If it is not a recipe.
    """
    check_recipe("recipe", recipe)
    return FoviConfig(**{each.name: getattr(recipe, each.name) for each in fields(FoviConfig)})
