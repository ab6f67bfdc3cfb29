"""Lists of files with labels, of which an image may have several: metadata.csv, metadata.jsonl."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from fovigraph._checks import regular_file, shown
from fovigraph.train.images import Files
from fovigraph.train.source import DataError
from fovigraph.train.splits import several_labels, some

LISTS = ("metadata.csv", "metadata.jsonl")
"""Files of which a folder has one."""

SEPARATOR = ";"
"""Between the labels of an image in CSV."""

LARGEST = 1_000_000_000
"""Bytes of such a file, at most."""

EXPECTED = "expected one of the files metadata.csv and metadata.jsonl, with file_name and labels"


def listed_images(path: Path, classes: Sequence[str] | None) -> tuple[Files, np.ndarray, list[str]]:
    """Read which images a folder has, and their labels, from the list in it.

    ``metadata.csv`` has a header with the columns ``file_name`` and ``labels``, and ``;`` between
    the labels of an image; ``metadata.jsonl`` has an object on every line, with a list of labels
    (the layout of Hugging Face's ImageFolder). An image may have no label.

    Args:
        path: The folder.
        classes: Names that labels may have; ``None``: any.

    Returns:
        Images, labels (bool, ``[N, C]``) and names of the classes: those that occur, sorted, if
        none were given.

    Raises:
        DataError: If there is no such list, it cannot be read, or a line is not of that form.
    """
    there = [name for name in LISTS if (path / name).exists()]
    if len(there) != 1:
        found = "got both" if there else f"found {some([child.name for child in path.iterdir()])}"
        raise DataError(f"{path}: {EXPECTED}; {found}")
    file = path / there[0]
    names: list[str] = []
    labels: list[list[str]] = []
    for place, name, given in _rows(file):
        names.append(_inside(name, place))
        labels.append(given)
    if not names:
        raise DataError(f"{file}: there are no images in it")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{file}: every image must be listed once, got {some(twice)} more often")
    return Files(path, names), *several_labels(labels, classes, str(file))


def _rows(file: Path) -> Iterator[tuple[str, Any, list[str]]]:
    """Yield where a row stands, and its file's name and labels."""
    try:
        regular_file(file)
        if file.stat().st_size > LARGEST:
            raise DataError(f"{file}: must have at most {LARGEST:,} bytes")
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from error
    try:
        yield from (_csv_rows if file.suffix == ".csv" else _json_rows)(file, text)
    except (csv.Error, RecursionError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from error


def _csv_rows(file: Path, text: str) -> Iterator[tuple[str, Any, list[str]]]:
    table = csv.DictReader(io.StringIO(text, newline=""))
    for column in ("file_name", "labels"):
        if column not in (table.fieldnames or ()):
            raise DataError(
                f"{file}: there must be a column {column!r}, got {some(table.fieldnames or [])}"
            )
    for row in table:
        place = f"{file}, line {table.line_num}"
        if row["labels"] is None or None in row:
            raise DataError(f"{place}: must have as many cells as the first line")
        cell = row["labels"].strip()
        labels = [label.strip() for label in cell.split(SEPARATOR)] if cell else []
        if "" in labels:
            raise DataError(f"{place}: labels must be names with ; between them, got {cell!r}")
        yield place, row["file_name"], labels


def _json_rows(file: Path, text: str) -> Iterator[tuple[str, Any, list[str]]]:
    for number, line in enumerate(text.splitlines(), 1):
        place = f"{file}, line {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{place}: not valid JSON: {error}") from error
        if not isinstance(row, dict) or not {"file_name", "labels"} <= row.keys():
            raise DataError(
                f"{place}: must be an object with file_name and labels, got {shown(row)}"
            )
        labels = row["labels"]
        if not isinstance(labels, list) or not all(
            isinstance(label, str) and label.strip() for label in labels
        ):
            raise DataError(f"{place}: labels must be a list of names, got {shown(labels)}")
        yield place, row["file_name"], labels


def _inside(name: Any, place: str) -> str:
    """Return the path of a file, if it lies in the folder."""
    path = PurePosixPath(name) if isinstance(name, str) and name and "\0" not in name else None
    if path is None or path.is_absolute() or ".." in path.parts:
        raise DataError(
            f"{place}: file_name must be the path of an image within the folder, got {shown(name)}"
        )
    return str(path)
