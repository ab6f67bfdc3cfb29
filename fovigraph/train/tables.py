"""Parquet files, and datasets of the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fovigraph._checks import regular_file
from fovigraph.train.images import Encoded, ImageStream, StoredImages, encoded, first_line
from fovigraph.train.source import DataConfig, DataError
from fovigraph.train.splits import (
    TEST,
    TRAIN,
    Splits,
    several_labels,
    some,
    split_names,
    two_or_more,
    without_test,
)


def check_regular(path: Path, wanted: str) -> None:
    """Refuse a path that is not a file which can be opened without waiting."""
    try:
        regular_file(path)
    except OSError as error:
        raise DataError(f"{path} must be {wanted}: {error.strerror}") from error


def parquet_files(path: Path) -> list[Path]:
    files = sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))
    for file in files:
        check_regular(file, "a file")
    return files


def by_split(path: Path, files: list[Path], config: DataConfig) -> dict[str, list[str]]:
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
            f"but {some([file.name for file in files])}; choose others with data.train_split"
        )
    return found


def open_tables(
    files: dict[str, list[str]] | None, config: DataConfig, multi_label: bool, hold_out: bool
) -> Splits:
    """Open parquet files, by their split, or a dataset of the Hub.

    Args:
        files: The files of each split; ``None``: those of the dataset ``data.source`` on the Hub.
        config: The section ``data`` of a recipe.
        multi_label: Whether labels are lists, as an image may have several.
        hold_out: As of :func:`~fovigraph.train.splits.without_test`.
    """
    found = _dataset(files, config)
    train_name, test_name = split_names(found, config, str(config.source))
    if config.streaming and test_name is None:
        raise DataError(
            f"{config.source}: nothing can be held out of a stream, and there is no split "
            f"{', '.join(TEST)}, but {', '.join(found)}; choose one with data.test_split"
        )
    remote = files is None
    kind = _LabelledTable if multi_label else _Table
    train = kind(found[train_name], f"{config.source}, {train_name}", config, remote)
    classes = train.classes()
    if test_name is None:
        return without_test(train, train.labels(classes), classes, config, hold_out)
    test = kind(found[test_name], f"{config.source}, {test_name}", config, remote)
    if config.streaming:
        lengths = [_length(found, name, files) for name in (train_name, test_name)]
        return Splits(
            train.stream(classes, lengths[0], config),
            test.stream(classes, lengths[1], config),
            classes,
            test_name,
        )
    return Splits(
        StoredImages(train, torch.from_numpy(train.labels(classes)), config.size),
        StoredImages(test, torch.from_numpy(test.labels(classes)), config.size),
        classes,
        test_name,
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
                f"{config.source} is no file or folder here, and the Hugging Face Hub did not "
                f"give it: {reason}"
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
        from datasets import Image

        if not rows.features:
            raise DataError(f"{name}: does not say which columns it has")
        self.name = name
        self.remote = remote
        features = rows.features
        images = [column for column, feature in features.items() if _holds_images(feature)]
        self.image = _column("image", config.image_column, images, features, name)
        self.label = _column("label", config.label_column, self.likely(features), features, name)
        self.feature = features[self.label]
        if self.image not in images:
            raise DataError(
                f"{name}: column {self.image!r} must hold images (bytes and path), "
                f"got {features[self.image]}"
            )
        self.check_labels()
        rows = rows.select_columns([self.image, self.label])
        if isinstance(features[self.image], Image):
            rows = rows.cast_column(self.image, Image(decode=False))
        self.rows = rows

    @staticmethod
    def likely(features: Mapping[str, Any]) -> list[str]:
        """Return the columns that may be that of the labels."""
        from datasets import ClassLabel

        labels = [column for column, feature in features.items() if isinstance(feature, ClassLabel)]
        return ["label"] if len(labels) != 1 and "label" in features else labels

    def check_labels(self) -> None:
        """Take the names of the classes from the column of labels, if it has them.

        Raises:
            DataError: If it does not hold labels.
        """
        from datasets import ClassLabel

        if not isinstance(self.feature, ClassLabel) and not _is_integer(self.feature):
            raise DataError(
                f"{self.name}: column {self.label!r} must hold class labels or integers, "
                f"got {self.feature}"
            )
        self.names = getattr(self.feature, "names", None)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Encoded:  # type: ignore[override]
        return encoded(self.rows[index][self.image], self.name, f"row {index}", self.remote)

    def classes(self) -> list[str]:
        """Return the names of the classes, or else the integers there are."""
        if self.names is not None:
            return two_or_more(list(self.names), self.name)
        if not isinstance(self.rows, Sized):
            raise DataError(
                f"{self.name}: a stream must say what its classes are; column {self.label!r} "
                f"holds {self.feature}"
            )
        return two_or_more([str(value) for value in np.unique(self._values())], self.name)

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
            allowed = f"from 0 to {len(classes) - 1}" if self.names else f"of {some(classes)}"
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
                f"{self.name}: classes must be those to learn, {some(classes)}, "
                f"got {some(self.names or [])}"
            )

    def _column(self) -> Any:
        """Return the labels as they are stored, a column of Arrow's."""
        column = self.rows.select_columns([self.label]).with_format("arrow")[:][self.label]
        if not len(column):
            raise DataError(f"{self.name}: there are no images")
        if column.null_count:
            raise DataError(
                f"{self.name}: {column.null_count} of {len(column)} labels in column "
                f"{self.label!r} are missing"
            )
        return column

    def _values(self) -> np.ndarray:
        values = self._column().to_numpy().astype(np.int64)
        if values.min() < 0:
            raise DataError(
                f"{self.name}: labels must be at least 0, got {values.min()}, as images without "
                "labels often have; choose another split with data.train_split or data.test_split"
            )
        return values


class _LabelledTable(_Table):
    """A split in which an image has a list of labels: class labels, names or integers."""

    @staticmethod
    def likely(features: Mapping[str, Any]) -> list[str]:
        lists = [column for column, each in features.items() if _entries(each) is not None]
        return ["labels"] if len(lists) != 1 and "labels" in features else lists

    def check_labels(self) -> None:
        entries = _entries(self.feature)
        if entries is None:
            raise DataError(
                f"{self.name}: column {self.label!r} must hold lists of class labels, names or "
                f"integers, got {self.feature}"
            )
        self.names = getattr(entries, "names", None)

    def classes(self) -> list[str]:
        """Return the names of the classes, or else the names or integers there are."""
        if self.names is not None:
            return list(self.names)
        values = {value for values in self._lists() for value in values}
        if not values:
            raise DataError(f"{self.name}: none of {len(self)} images has a label")
        return [str(value) for value in sorted(values)]

    def labels(self, classes: list[str]) -> np.ndarray:
        """Return which classes every image has, bool ``[N, C]``.

        Raises:
            DataError: If labels are not those of ``classes``.
        """
        lists = self._lists()
        if self.names is None:
            return several_labels([[str(x) for x in each] for each in lists], classes, self.name)[0]
        self._check_names(classes)
        wrong = [x for each in lists for x in each if not 0 <= x < len(classes)]
        if wrong:
            raise DataError(
                f"{self.name}: labels must be from 0 to {len(classes) - 1}, got {wrong[0]} "
                f"({len(wrong)} are wrong)"
            )
        return several_labels([[classes[x] for x in each] for each in lists], classes, self.name)[0]

    def _lists(self) -> list[list[Any]]:
        lists: list[list[Any]] = self._column().to_pylist()
        missing = sum(None in each for each in lists)
        if missing:
            raise DataError(
                f"{self.name}: a label is missing in {missing} of {len(lists)} lists in column "
                f"{self.label!r}"
            )
        return lists


def _entries(feature: Any) -> Any:
    """Return the feature of the entries of lists of labels; ``None``: it is of something else."""
    from datasets import ClassLabel, Value

    entries = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    is_name = isinstance(entries, Value) and entries.dtype in ("string", "large_string")
    return entries if isinstance(entries, ClassLabel) or is_name or _is_integer(entries) else None


def _is_integer(feature: Any) -> bool:
    from datasets import Value

    return isinstance(feature, Value) and "int" in feature.dtype


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
            raise DataError(f"{name}: there is no column {option}={chosen!r}, but {some(there)}")
        return chosen
    if len(candidates) != 1:
        found = f"{len(candidates)} ({some(candidates)})" if candidates else "none"
        raise DataError(
            f"{name}: there must be one column of {what}s, got {found}; choose one of "
            f"{some(there)} with {option}"
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
