"""The images of a run, as one of its processes gets them."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from lightning.fabric import Fabric
from omegaconf import DictConfig

from fovigraph.train.batches import Batches
from fovigraph.train.data import open_data
from fovigraph.train.images import DataError


class Inputs(NamedTuple):
    """The batches of a run.

    Attributes:
        training, testing: This process's share of each split.
        neighbours: Both splits, whole and in order, which every process looks at.
    """

    training: Batches
    testing: Batches
    neighbours: tuple[Batches, Batches]


def open_inputs(recipe: DictConfig, fabric: Fabric, *, progress: bool) -> Inputs:
    """Open the data of a recipe.

    Args:
        recipe: The whole recipe.
        fabric: Knows how many processes there are, and which of them this is.
        progress: Whether to show a progress bar.

    Raises:
        DataError: If the data cannot be read, or are not what the recipe is for.
    """
    data = open_data(recipe.data, progress=progress)
    if len(data.classes) != recipe.head.num_classes:
        raise DataError(
            f"head.num_classes must be {len(data.classes)}, the number of classes in "
            f"{recipe.data.source!r}, got {recipe.head.num_classes}"
        )
    several = fabric.world_size > 1
    labelled = recipe.objective.name == "classify"
    reading = partial(
        Batches,
        batch_size=recipe.train.batch_size,
        workers=recipe.data.workers,
        # Who compares all processes' images needs as many of each.
        strict=recipe.data.strict or (several and not labelled),
        pin_memory=fabric.device.type == "cuda",
    )
    share = partial(reading, rank=fabric.global_rank, world_size=fabric.world_size)
    training = share(data.train, shuffle=True, seed=recipe.train.seed, drop_last=True)
    testing = share(data.test, shuffle=False, drop_last=False)
    if training.length is None:
        raise DataError(
            f"how many images {recipe.data.source!r} streams is not known, and the learning "
            "rate's schedule needs it; data.streaming=false reads them all first"
        )
    whole = partial(reading, shuffle=False, drop_last=False)
    return Inputs(training, testing, (whole(data.train), whole(data.test)))
