"""Where images with labels come from: scenes with digits, folders, parquet files, and the Hub."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from tqdm import tqdm

from fovigraph.train.batches import Batches
from fovigraph.train.folders import open_folder
from fovigraph.train.images import ImageSplit, ImageStream, LoadedImages
from fovigraph.train.scenes import Scenes
from fovigraph.train.source import DataConfig, DataError, check_source
from fovigraph.train.splits import TRAIN, Splits
from fovigraph.train.tables import by_split, check_regular, open_tables, parquet_files

__all__ = ["DataError", "Splits", "open_data"]

CHUNK = 256
"""Images that are read into memory at a time."""

DELAY = 2
"""Seconds after which a bar is shown."""

FEW = 1000
"""The most images that the main process reads itself: workers would take longer to start."""


def open_data(
    config: DataConfig,
    progress: bool = True,
    *,
    multi_label: bool = False,
    hold_out: bool = True,
) -> Splits:
    """Find what a configuration names, and check it.

    Args:
        config: The section ``data`` of a recipe.
        progress: Whether a bar is shown if reading into memory takes long.
        multi_label: Whether an image may have several classes, or none.
        hold_out: Whether some images are held out if there is no test split; otherwise they are
            both to train on and to test on.

    Returns:
        The splits; those that fit into ``config.memory`` are in memory.

    Raises:
        DataError: If there is nothing of that name, it cannot be read, has no images, too few
            classes, no such split or column, or labels that are not those of its classes; or if a
            package is missing.
    """
    splits = _open(config, multi_label, hold_out)
    train = _loaded(splits.train, config, progress)
    same = splits.test is splits.train
    test = train if same else _loaded(splits.test, config, progress)
    return Splits(train, test, splits.classes, splits.tested)


def _open(config: DataConfig, multi_label: bool, hold_out: bool) -> Splits:
    source = check_source(config)
    if multi_label and config.streaming:
        raise DataError(f"{source}: data.streaming must be false where images have several labels")
    if source == "digits":
        _refuse_streaming(config)
        if multi_label:
            raise DataError("digits: images have one label each, and several are asked for")
        try:
            train, test = (Scenes(split, config.size) for split in ("train", "test"))
        except (ImportError, ValueError) as error:
            raise DataError(f"digits: {error}") from error
        return Splits(train, test, list(Scenes.classes), "test")
    path = Path(source).expanduser()
    if path.is_dir() and not (parquet := parquet_files(path)):
        _refuse_streaming(config)
        return open_folder(path, config, multi_label, hold_out)
    if path.is_dir():
        return open_tables(by_split(path, parquet, config), config, multi_label, hold_out)
    if os.path.lexists(path):
        check_regular(path, "a folder or a parquet file, *.parquet")
        if path.suffix != ".parquet":
            raise DataError(f"{path} must be a folder or a parquet file, *.parquet")
        files = {config.train_split or TRAIN: [str(path)]}
        return open_tables(files, config, multi_label, hold_out)
    return open_tables(None, config, multi_label, hold_out)


def _refuse_streaming(config: DataConfig) -> None:
    if config.streaming:
        raise DataError(
            f"{config.source}: data.streaming=true is for parquet files and datasets on the Hub"
        )


def _loaded(
    split: ImageSplit | ImageStream, config: DataConfig, progress: bool
) -> ImageSplit | ImageStream:
    """Return the split in memory, if it fits."""
    if isinstance(split, ImageStream) or len(split) * 3 * split.size**2 > config.memory * 1e9:
        return split
    count = len(split)
    images = torch.zeros(count, 3, split.size, split.size, dtype=torch.uint8)
    labels = torch.zeros(count, dtype=torch.int64)
    readable = torch.zeros(count, dtype=torch.bool)
    batches = Batches(
        split,
        CHUNK,
        shuffle=False,
        drop_last=False,
        workers=config.workers if count > FEW else 0,
        strict=config.strict,
    )
    with tqdm(
        total=count,
        desc="Reading images",
        unit="image",
        delay=DELAY,
        leave=False,
        disable=not progress,
    ) as bar:
        for batch in batches.epoch(0):
            if batch.labels.ndim > labels.ndim:  # of the first batch of images with several
                labels = batch.labels.new_zeros(count, batch.labels.shape[1])
            images[batch.indices] = batch.images
            labels[batch.indices] = batch.labels
            readable[batch.indices] = True
            bar.update(len(batch.indices))
    if not readable.any():
        raise DataError(f"none of {count} images can be read; the first: {batches.skipped[0]}")
    missing = (~readable).nonzero().flatten().tolist()
    return LoadedImages(images, labels, dict(zip(missing, batches.skipped, strict=True)))
