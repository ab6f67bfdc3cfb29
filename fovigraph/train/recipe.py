"""The schema of a training recipe: a network's configuration, and how it is trained."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from fovigraph._checks import (
    one_of,
    path_of,
    positive_int,
    shown,
)
from fovigraph._compose import Layer, compose, read, stated, to_dict
from fovigraph._schema import Section, keys
from fovigraph.config import FoviConfig, load_config
from fovigraph.models.aggregation import LEARNT
from fovigraph.train.augment import AugmentConfig
from fovigraph.train.objectives import ObjectiveConfig
from fovigraph.train.optim import OptimizerConfig
from fovigraph.train.source import DataConfig
from fovigraph.train.start import find_start

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
LOGGERS = ("tensorboard", "wandb")


@dataclass(frozen=True)
class TrainConfig(Section):
    """The training loop of a recipe: how long, on which devices, and what is written.

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
            They stay in evaluation mode: dropout is off.
        frozen_statistics: Whether running statistics of batch norms in there are ``"kept"``, or
            ``"updated"`` to the training images.
        ema: Decay of an exponential moving average of all weights over the steps, which is what is
            evaluated and saved; after n steps the decay is ``min(ema, (1 + n) / (10 + n))``.
            ``None``: no average.
        activation_checkpointing: Whether the activations within the backbone's blocks are computed
            again in the backward pass, and not kept until then: the same weights with less memory,
            for one more forward pass a step.
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
    frozen_statistics: str = "kept"
    ema: float | None = None
    activation_checkpointing: bool = False

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
        one_of("train.frozen_statistics", self.frozen_statistics, ("kept", "updated"))
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
        if self.retina.channels != 3:
            raise ValueError(
                "retina.channels must be 3 in a recipe, as images are read in red, green and blue, "
                f"got {self.retina.channels}"
            )
        if self.objective.per_fixation and self.head.aggregation in LEARNT:
            raise ValueError(
                "objective.per_fixation must be false with the learnt head.aggregation="
                f"{self.head.aggregation!r}, which learns from several fixations together"
            )
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
    kept = ["dropout"]  # the rest of the head belongs to its classes
    if config.head.joint:  # recipes of earlier releases do not state how the others are averaged
        kept += ["aggregation", "aggregation_width"]
    content["head"] = {key: content["head"][key] for key in kept}
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
