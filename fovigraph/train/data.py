"""Where images with labels come from: scenes with digits, folders, parquet files, and the Hub."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from fovigraph._checks import regular_file
from fovigraph.train.batches import Batches
from fovigraph.train.images import (
    Encoded,
    ImageSplit,
    ImageStream,
    LoadedImages,
    StoredImages,
    encoded,
    first_line,
)
from fovigraph.train.scenes import Scenes
from fovigraph.train.source import DataConfig, DataError, check_source

__all__ = ["DataError", "Splits", "open_data"]

TRAIN = "train"
TEST = ("test", "validation", "val")
"""Names of splits where the configuration gives none; of those to evaluate on, the first there is
is taken."""

CHUNK = 256
"""Images that are read into memory at a time."""

DELAY = 2
"""Seconds after which a bar is shown."""

FEW = 1000
"""Up to so many images, the main process reads: others would take longer to start."""


@dataclass
class Splits:
    """Images to train on, and others to test on.

    Attributes:
        train, test: What :class:`~fovigraph.train.batches.Batches` reads: images and labels by
            index, uint8 ``[3, size, size]`` and int (an :class:`ImageSplit`), or an
            :class:`ImageStream`.
        classes: Names of the classes, which labels count from 0.
    """

    train: ImageSplit | ImageStream
    test: ImageSplit | ImageStream
    classes: list[str]


def open_data(config: DataConfig, progress: bool = True) -> Splits:
    """Find what a configuration names, and check it.

    Args:
        config: The section ``data`` of a recipe.
        progress: Whether a bar is shown if reading into memory takes long.

    Returns:
        The splits; those that fit into ``config.memory`` are in memory.

    Raises:
        DataError: If there is nothing of that name, it cannot be read, has no images, fewer than
            two classes, no such split or column, or labels that are not those of its classes; or
            if a package is missing.
    """
    splits = _open(config)
    return Splits(
        _loaded(splits.train, config, progress),
        _loaded(splits.test, config, progress),
        splits.classes,
    )


def _open(config: DataConfig) -> Splits:
    source = check_source(config)
    if source == "digits":
        _refuse_streaming(config)
        try:
            train, test = (Scenes(split, config.size) for split in ("train", "test"))
        except (ImportError, ValueError) as error:
            raise DataError(f"digits: {error}") from error
        return Splits(train, test, list(Scenes.classes))
    path = Path(source).expanduser()
    if path.is_dir() and not (parquet := _parquet_files(path)):
        _refuse_streaming(config)
        return _folder(path, config)
    if path.is_dir():
        return _tables(_by_split(path, parquet, config), config)
    if os.path.lexists(path):
        _regular(path, "a folder or a parquet file, *.parquet")
        if path.suffix != ".parquet":
            raise DataError(f"{path} must be a folder or a parquet file, *.parquet")
        return _tables({config.train_split or TRAIN: [str(path)]}, config)
    return _tables(None, config)


def _regular(path: Path, wanted: str) -> None:
    """Say what a path must be if it is not a file that can be opened without waiting."""
    try:
        regular_file(path)
    except OSError as error:
        raise DataError(f"{path} must be {wanted}: {error.strerror}") from error


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
            images[batch.indices] = batch.images
            labels[batch.indices] = batch.labels
            readable[batch.indices] = True
            bar.update(len(batch.indices))
    if not readable.any():
        raise DataError(f"none of {count} images can be read; the first: {batches.skipped[0]}")
    missing = (~readable).nonzero().flatten().tolist()
    return LoadedImages(images, labels, dict(zip(missing, batches.skipped, strict=True)))


def _split_names(there: Iterable[str], config: DataConfig, where: str) -> tuple[str, str | None]:
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


# ---- folders of images


def _folder(path: Path, config: DataConfig) -> Splits:
    folders = _subfolders(path)
    names = [folder.name for folder in folders]
    if not config.train_split and not config.test_split and TRAIN not in names:
        files, labels, classes = _class_folders(path, None)
        return _hold_out(files, labels, classes, config)
    train, test = _split_names(names, config, str(path))
    files, labels, classes = _class_folders(path / train, None)
    if test is None:
        return _hold_out(files, labels, classes, config)
    held_files, held_labels, _ = _class_folders(path / test, classes)
    return Splits(
        StoredImages(files, torch.from_numpy(labels), config.size),
        StoredImages(held_files, torch.from_numpy(held_labels), config.size),
        classes,
    )


class _Files(Sequence[Encoded]):
    def __init__(self, folder: Path, names: list[str]):
        self.folder = str(folder)
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Encoded:  # type: ignore[override]
        name = self.names[index]
        return Encoded(name, os.path.join(self.folder, name))


def _subfolders(path: Path) -> list[Path]:
    """List the folders in a folder, linked ones too, except links to what it is in itself."""
    above = {os.path.realpath(path), *_true_parents(path)}
    try:
        folders = [child for child in path.iterdir() if child.is_dir()]
    except OSError as error:
        _cannot_list(error)
    return sorted(
        child
        for child in folders
        if not child.name.startswith(".") and os.path.realpath(child) not in above
    )


def _class_folders(path: Path, classes: list[str] | None) -> tuple[_Files, np.ndarray, list[str]]:
    """List the images in the subfolders of a folder, in the order of their names.

    Args:
        path: The folder.
        classes: Names that the subfolders may have; ``None``: any.

    Returns:
        Images, labels and names of the classes.
    """
    files: list[str] = []
    labels: list[int] = []
    found: list[str] = []
    for folder in _subfolders(path):
        if classes is not None and folder.name not in classes:
            raise DataError(f"{folder}: there is no such class to learn, but {_some(classes)}")
        inside = _images_under(folder)
        if not inside and classes is None:
            raise DataError(f"{folder}: there are no images in this folder of a class")
        label = len(found) if classes is None else classes.index(folder.name)
        files += [file.removeprefix(f"{path}{os.sep}") for file in inside]
        labels += [label] * len(inside)
        found.append(folder.name)
    if not files:
        raise DataError(
            f"{path}: there are no images; expected a subfolder of them for each class, "
            f"or parquet files (found {_some([child.name for child in path.iterdir()])})"
        )
    classes = _two_or_more(found, path) if classes is None else classes
    return _Files(path, files), np.array(labels, dtype=np.int64), classes


def _two_or_more(classes: list[str], where: str | Path) -> list[str]:
    if len(classes) < 2:
        raise DataError(
            f"{where}: there must be two classes at least, got {len(classes)}: {_some(classes)}"
        )
    return classes


def _images_under(folder: Path) -> list[str]:
    """List the files, however deep, that by their suffix are images.

    Links to folders are followed, but no folder is listed twice: links may form loops. A folder
    that is inside and linked to as well is listed by its own path.
    """
    known = Image.registered_extensions()
    listed = _true_parents(folder)
    found: list[str] = []
    ahead = deque([str(folder)])
    while ahead:
        for parent, folders, names in os.walk(ahead.popleft(), onerror=_cannot_list):
            here = os.path.realpath(parent)
            if here in listed:
                folders.clear()
                continue
            listed.add(here)
            inside = (os.path.join(parent, name) for name in sorted(folders))
            ahead.extend(path for path in inside if os.path.islink(path))
            found += [
                os.path.join(parent, name)
                for name in names
                if os.path.splitext(name)[1].lower() in known and not name.startswith(".")
            ]
    return sorted(found)


def _true_parents(folder: Path) -> set[str]:
    """Return the folders that a folder is in, without links."""
    return {str(parent) for parent in Path(os.path.realpath(folder)).parents}


def _cannot_list(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot be listed: {error.strerror}") from error


def _hold_out(
    files: Sequence[Encoded], labels: np.ndarray, classes: list[str], config: DataConfig
) -> Splits:
    """Split by a rule without chance: of each class, images at even distances are held out."""
    held = np.zeros(len(labels), dtype=bool)
    for label in range(len(classes)):
        members = np.flatnonzero(labels == label)
        steps = np.floor(np.arange(len(members) + 1) * config.holdout + 0.5)
        held[members] = np.diff(steps) > 0
    if not held.any():
        raise DataError(
            f"{config.source}: no test split, and too few images to hold out "
            f"data.holdout={config.holdout} of each class"
        )
    if held.all():
        raise DataError(
            f"{config.source}: data.holdout={config.holdout} of each class leaves no images to "
            "learn from"
        )

    def part(which: np.ndarray) -> StoredImages:
        indices = np.flatnonzero(which)
        return StoredImages(_Subset(files, indices), torch.from_numpy(labels[indices]), config.size)

    return Splits(part(~held), part(held), classes)


class _Subset(Sequence[Encoded]):
    def __init__(self, files: Sequence[Encoded], indices: np.ndarray):
        self.files = files
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Encoded:  # type: ignore[override]
        return self.files[int(self.indices[index])]


# ---- parquet files, and the Hub


def _parquet_files(path: Path) -> list[Path]:
    files = sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))
    for file in files:
        _regular(file, "a file")
    return files


def _by_split(path: Path, files: list[Path], config: DataConfig) -> dict[str, list[str]]:
    """Sort files by the split that their names begin with; without any, all are to learn from."""
    names = {config.train_split or TRAIN, *([config.test_split] if config.test_split else TEST)}
    found: dict[str, list[str]] = {}
    for file in files:
        for name in names:
            if re.match(rf"{re.escape(name)}(?![A-Za-z])", file.stem):
                found.setdefault(name, []).append(str(file))
    if not found and not config.train_split and not config.test_split:
        return {TRAIN: [str(file) for file in files]}
    if (config.train_split or TRAIN) not in found:
        raise DataError(
            f"{path}: there are no files {config.train_split or TRAIN}*.parquet to learn from, "
            f"but {_some([file.name for file in files])}; choose others with data.train_split"
        )
    return found


def _tables(files: dict[str, list[str]] | None, config: DataConfig) -> Splits:
    """Open parquet files, by their split, or a dataset of the Hub."""
    found = _dataset(files, config)
    train_name, test_name = _split_names(found, config, str(config.source))
    if config.streaming and test_name is None:
        raise DataError(
            f"{config.source}: of a stream nothing can be held out, and there is no split "
            f"{', '.join(TEST)}, but {', '.join(found)}; choose one with data.test_split"
        )
    remote = files is None
    train = _Table(found[train_name], f"{config.source}, {train_name}", config, remote)
    classes = _two_or_more(train.classes(), train.name)
    if test_name is None:
        return _hold_out(train, train.labels(classes), classes, config)
    test = _Table(found[test_name], f"{config.source}, {test_name}", config, remote)
    if config.streaming:
        lengths = [_length(found, name, files) for name in (train_name, test_name)]
        return Splits(
            train.stream(classes, lengths[0], config),
            test.stream(classes, lengths[1], config),
            classes,
        )
    return Splits(
        StoredImages(train, torch.from_numpy(train.labels(classes)), config.size),
        StoredImages(test, torch.from_numpy(test.labels(classes)), config.size),
        classes,
    )


def _dataset(files: dict[str, list[str]] | None, config: DataConfig) -> Mapping[str, Any]:
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"{config.source}: parquet files and the Hub need datasets: "
            "pip install 'fovigraph[train]'"
        ) from error
    try:
        if files is None:
            return datasets.load_dataset(config.source, config.subset, streaming=config.streaming)
        return {  # each by itself: together, all would be read with the classes of the first
            split: datasets.load_dataset(
                "parquet", data_files={split: paths}, split=split, streaming=config.streaming
            )
            for split, paths in files.items()
        }
    except Exception as error:  # of the network, the Hub, the files
        reason = first_line(error.__cause__ or error)
        if files is None:
            raise DataError(
                f"{config.source} is no file or folder here, nor to be had from the Hugging Face "
                f"Hub: {reason}"
            ) from error
        raise DataError(f"cannot read {config.source}: {reason}") from error


class _Table(Sequence[Encoded]):
    """A split of a dataset: its images as they are stored.

    Args:
        rows: A ``datasets.Dataset`` or ``datasets.IterableDataset``.
        name: What errors call it.
        config: Names the columns, if need be.
        remote: Whether images of other machines may be fetched, which a dataset of the Hub may name
            instead of holding them.
    """

    def __init__(self, rows: Any, name: str, config: DataConfig, remote: bool):
        from datasets import ClassLabel, Image, Value

        if not rows.features:
            raise DataError(f"{name}: does not say which columns it has")
        self.name = name
        self.remote = remote
        features = rows.features
        images = [column for column, feature in features.items() if _holds_images(feature)]
        self.image = _column("image", config.image_column, images, features, name)
        labels = [column for column, feature in features.items() if isinstance(feature, ClassLabel)]
        if len(labels) != 1 and "label" in features:
            labels = ["label"]
        self.label = _column("label", config.label_column, labels, features, name)
        self.label_feature = features[self.label]
        if self.image not in images:
            raise DataError(
                f"{name}: column {self.image!r} must hold images (bytes and path), "
                f"got {features[self.image]}"
            )
        if not isinstance(self.label_feature, ClassLabel) and not (
            isinstance(self.label_feature, Value) and "int" in self.label_feature.dtype
        ):
            raise DataError(
                f"{name}: column {self.label!r} must hold class labels or integers, "
                f"got {self.label_feature}"
            )
        rows = rows.select_columns([self.image, self.label])
        if isinstance(features[self.image], Image):
            rows = rows.cast_column(self.image, Image(decode=False))
        self.rows = rows
        self.names = getattr(self.label_feature, "names", None)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Encoded:  # type: ignore[override]
        return encoded(self.rows[index][self.image], self.name, f"row {index}", self.remote)

    def classes(self) -> list[str]:
        """Return the names of the classes, or else the integers there are."""
        if self.names is not None:
            return list(self.names)
        if not isinstance(self.rows, Sized):
            raise DataError(
                f"{self.name}: a stream must say what its classes are; column {self.label!r} "
                f"holds {self.label_feature}"
            )
        return [str(value) for value in np.unique(self._values())]

    def labels(self, classes: list[str]) -> np.ndarray:
        """Return the labels, int64 ``[N]`` from 0.

        Raises:
            DataError: If there are none, or they are not those of ``classes``.
        """
        values = self._values()
        if self.names is None:
            known = np.array([int(name) for name in classes])
            labels = np.searchsorted(known, values).clip(0, len(known) - 1)
            wrong = values[known[labels] != values]
        else:
            self._check_names(classes)
            labels, wrong = values, values[values >= len(classes)]
        if len(wrong):
            allowed = f"from 0 to {len(classes) - 1}" if self.names else f"of {_some(classes)}"
            raise DataError(
                f"{self.name}: labels must be {allowed}, got {wrong[0]} "
                f"({len(wrong)} of {len(values)} are wrong)"
            )
        return labels

    def stream(self, classes: list[str], length: int | None, config: DataConfig) -> ImageStream:
        """Return the split as a stream, of so many images, if that is known."""
        self._check_names(classes)
        return ImageStream(
            self.rows,
            self.image,
            self.label,
            classes=len(classes),
            size=config.size,
            buffer=config.shuffle_buffer,
            name=self.name,
            length=length,
            remote=self.remote,
        )

    def _check_names(self, classes: list[str]) -> None:
        if self.names != classes:
            raise DataError(
                f"{self.name}: classes must be those to learn, {_some(classes)}, "
                f"got {_some(self.names or [])}"
            )

    def _values(self) -> np.ndarray:
        column = self.rows.select_columns([self.label]).with_format("arrow")[:][self.label]
        if not len(column):
            raise DataError(f"{self.name}: there are no images")
        if column.null_count:
            raise DataError(
                f"{self.name}: {column.null_count} of {len(column)} labels in column "
                f"{self.label!r} are missing"
            )
        values = column.to_numpy().astype(np.int64)
        if values.min() < 0:
            raise DataError(
                f"{self.name}: labels must be at least 0, got {values.min()}, as images without "
                "labels often have; choose another split with data.train_split or data.test_split"
            )
        return values


def _length(found: Mapping[str, Any], name: str, files: dict[str, list[str]] | None) -> int | None:
    """Return how many images a stream has, if its source says so."""
    if files is not None:
        from pyarrow.parquet import read_metadata

        return sum(read_metadata(file).num_rows for file in files[name])
    split = (found[name].info.splits or {}).get(name)
    return split.num_examples or None if split else None


def _column(
    what: str, chosen: str | None, candidates: list[str], there: Iterable[str], name: str
) -> str:
    """Return the column that is chosen, or else the only candidate."""
    option = f"data.{what}_column"
    if chosen is not None:
        if chosen not in there:
            raise DataError(f"{name}: there is no column {option}={chosen!r}, but {_some(there)}")
        return chosen
    if len(candidates) != 1:
        found = f"{len(candidates)} ({_some(candidates)})" if candidates else "none"
        raise DataError(
            f"{name}: there must be one column of {what}s, got {found}; choose one of "
            f"{_some(there)} with {option}"
        )
    return candidates[0]


def _holds_images(feature: Any) -> bool:
    from datasets import Image

    if not isinstance(feature, dict):
        return isinstance(feature, Image)
    kinds = {"bytes": "binary", "path": "string"}
    return set(feature) == set(kinds) and all(
        kinds[part] in (dtype := getattr(value, "dtype", "")) or dtype == "null"
        for part, value in feature.items()
    )


def _some(names: Iterable[str], most: int = 10) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
