"""The images of a run, as one of its processes gets them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

from lightning.fabric import Fabric
from torch import Tensor

from fovigraph.train.batches import Batches
from fovigraph.train.calibrate import calibration_images
from fovigraph.train.data import Splits
from fovigraph.train.images import ImageSplit, ImageStream
from fovigraph.train.recipe import Recipe
from fovigraph.train.source import DataError


class Inputs(NamedTuple):
    """The batches of a run.

    Attributes:
        training, testing: This process's share of each split.
        neighbours: Both splits, whole and in order, which every process looks at.
        calibration: At most 1000 images of the test split, evenly spread over it.
    """

    training: Batches
    testing: Batches
    neighbours: tuple[Batches, Batches]
    calibration: Batches


def open_inputs(recipe: Recipe, fabric: Fabric, data: Splits, order: Tensor | None) -> Inputs:
    """Make the batches of a run.

    Args:
        recipe: The whole recipe.
        fabric: Knows how many processes there are, and which of them this is.
        data: The data of the recipe.
        order: The network's class of each of the data's labels; ``None``: they are the same.

    Raises:
        DataError: If there are too few images, or their number is not known.
    """
    several = fabric.world_size > 1
    labelled = recipe.objective.supervised
    reading = partial(
        Batches,
        batch_size=recipe.train.batch_size,
        workers=recipe.data.workers,
        # Objectives that compare the images of all processes need as many from each.
        strict=recipe.data.strict or (several and not labelled),
        pin_memory=fabric.device.type == "cuda",
        order=order,
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
    neighbours = whole(data.train), whole(data.test)
    return Inputs(training, testing, neighbours, whole(calibration_images(data.test)))


def with_batch_of(recipe: Recipe, split: ImageSplit | ImageStream) -> Recipe:
    """Return a recipe whose batch is no larger than a split; the recipe itself if it is not.

    A smaller batch still has as many images for every part of it
    (``devices · nodes · accumulate``). With too few images for that, the recipe stays as it is.
    """
    train = recipe.train
    images = split.length if isinstance(split, ImageStream) else len(split)
    parts = train.devices * train.nodes * train.accumulate
    if images is None or train.batch_size <= images or images < parts:
        return recipe
    return replace(recipe, train=replace(train, batch_size=images // parts * parts))
