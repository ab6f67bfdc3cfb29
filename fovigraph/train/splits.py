"""The splits of data: those to train on, and those to test on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fovigraph.train.images import Encoded, ImageSplit, ImageStream, StoredImages
from fovigraph.train.source import DataConfig, DataError

TRAIN = "train"
TEST = ("test", "validation", "val")
"""Names of splits where the configuration gives none; of those to evaluate on, the first there is
is taken."""


@dataclass
class Splits:
    """Images to train on, and others to test on.

    Attributes:
        train, test: What :class:`~fovigraph.train.batches.Batches` reads: images and labels by
            index, uint8 ``[3, size, size]`` and int (an :class:`ImageSplit`), or an
            :class:`ImageStream`.
        classes: Names of the classes, which labels count from 0.
        tested: What ``test`` is, in words.
    """

    train: ImageSplit | ImageStream
    test: ImageSplit | ImageStream
    classes: list[str]
    tested: str


def split_names(there: Iterable[str], config: DataConfig, where: str) -> tuple[str, str | None]:
    """Return the names of the splits to learn from and to evaluate on, the latter if there is one.

    Raises:
        DataError: If there is no split of a name that the configuration gives.
    """
    there = list(there)
    train = config.train_split or TRAIN
    test = config.test_split or next((name for name in TEST if name in there), None)
    for option, name in (("train_split", train), ("test_split", test)):
        if name is not None and name not in there:
            raise DataError(
                f"{where}: there is no split {name!r}, but {', '.join(there)}; choose one with "
                f"data.{option}"
            )
    if train == test:
        raise DataError(f"{where}: data.train_split and data.test_split must differ, got {train!r}")
    return train, test


def two_or_more(classes: list[str], where: str | Path) -> list[str]:
    if len(classes) < 2:
        raise DataError(
            f"{where}: there must be two classes at least, got {len(classes)}: {some(classes)}"
        )
    return classes


def without_test(
    files: Sequence[Encoded],
    labels: np.ndarray,
    classes: list[str],
    config: DataConfig,
    hold_out: bool,
) -> Splits:
    """Return the splits of images that have no test split.

    Args:
        files, labels, classes: The images.
        config: The section ``data`` of a recipe.
        hold_out: Whether ``data.holdout`` of them are held out, by a fixed rule: images
            at even distances, of each class where every image has one. Otherwise both splits are
            all images.
    """
    if not hold_out:
        whole = StoredImages(files, torch.from_numpy(labels), config.size)
        return Splits(whole, whole, classes, "all images")
    held = np.zeros(len(labels), dtype=bool)
    single = labels.ndim == 1
    for label in range(len(classes) if single else 1):
        members = np.flatnonzero(labels == label) if single else np.arange(len(labels))
        steps = np.floor(np.arange(len(members) + 1) * config.holdout + 0.5)
        held[members] = np.diff(steps) > 0
    share = f"data.holdout={config.holdout}{' of each class' * single}"
    if not held.any():
        raise DataError(f"{config.source}: no test split, and too few images to hold out {share}")
    if held.all():
        raise DataError(f"{config.source}: {share} leaves no images to learn from")

    def part(which: np.ndarray) -> StoredImages:
        indices = np.flatnonzero(which)
        return StoredImages(_Subset(files, indices), torch.from_numpy(labels[indices]), config.size)

    return Splits(part(~held), part(held), classes, "the images held out of training")


class _Subset(Sequence[Encoded]):
    def __init__(self, files: Sequence[Encoded], indices: np.ndarray):
        self.files = files
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Encoded:  # type: ignore[override]
        return self.files[int(self.indices[index])]


def several_labels(
    labels: Sequence[Sequence[str]], classes: Sequence[str] | None, where: str
) -> tuple[np.ndarray, list[str]]:
    """Return which classes every image has, bool ``[N, C]``, and their names.

    Args:
        labels: Names of every image's classes.
        classes: Names that they may have; ``None``: all that occur, sorted.
        where: What errors call their source.

    Raises:
        DataError: If there is another name, or none at all.
    """
    occurring = {name for names in labels for name in names}
    if classes is None:
        if not occurring:
            raise DataError(f"{where}: none of {len(labels)} images has a label")
        classes = sorted(occurring)
    elif unknown := sorted(occurring - set(classes)):
        raise DataError(
            f"{where}: labels must be of the classes to learn, {some(classes)}, got {some(unknown)}"
        )
    index = {name: i for i, name in enumerate(classes)}
    table = np.zeros((len(labels), len(classes)), dtype=bool)
    for row, names in zip(table, labels, strict=True):
        row[[index[name] for name in names]] = True
    return table, list(classes)


def some(names: Iterable[str], most: int = 10) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
