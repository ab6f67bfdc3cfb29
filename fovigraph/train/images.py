"""Images with labels, as they are stored and in memory."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from PIL import Image
from torch import Tensor

from fovigraph.sensing.image import pixels_of, read_rgb
from fovigraph.train.source import DataError

if TYPE_CHECKING:
    import datasets


class BrokenImage(DataError):
    """An image that cannot be read.

    Args:
        name: What the image is called in its split.
        message: What was wrong.
    """

    def __init__(self, name: str, message: str):
        super().__init__(name, message)
        self.name = name

    def __str__(self) -> str:
        return self.args[1]


class ImageSplit(Protocol):
    """Images and labels by index; an image that cannot be read raises :class:`BrokenImage`.

    A label is the number of a class; or, where an image may have several, which of them it has,
    bool ``[C]``.
    """

    size: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Tensor, int | Tensor]: ...


class Encoded(NamedTuple):
    """An image as it is stored.

    Attributes:
        name: What the image is called in its split.
        file: The path or address (``https://…``) of its file, or the file's content.
        remote: Whether a file of another machine may be fetched.
    """

    name: str
    file: str | bytes
    remote: bool = False


class Files(Sequence[Encoded]):
    """Images in files.

    Args:
        folder: The folder that they are in.
        names: Their paths in it.
    """

    def __init__(self, folder: Path, names: Sequence[str]):
        self.folder = str(folder)
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Encoded:  # type: ignore[override]
        name = self.names[index]
        return Encoded(name, os.path.join(self.folder, name))


class StoredImages:
    """Images that are read whenever they are asked for.

    Args:
        files: The images.
        labels: int64 ``[N]``; or bool ``[N, C]``.
        size: Side of the squares that they are brought to, pixels.
    """

    def __init__(self, files: Sequence[Encoded], labels: Tensor, size: int):
        self.files = files
        self.labels = labels
        self.size = size

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int | Tensor]:
        """Return image and label.

        Raises:
            BrokenImage: If the image cannot be read.
        """
        return read_square(self.files[index], self.size), label_of(self.labels, index)


class LoadedImages:
    """Images that are in memory.

    Args:
        images: uint8 ``[N, 3, size, size]``; arbitrary where one cannot be read.
        labels: int64 ``[N]``; or bool ``[N, C]``.
        broken: What cannot be read, by its index.
    """

    def __init__(self, images: Tensor, labels: Tensor, broken: Mapping[int, BrokenImage]):
        self.images = images
        self.labels = labels
        self.broken = broken
        self.size = images.shape[-1]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int | Tensor]:
        """Return image and label.

        Raises:
            BrokenImage: If the image could not be read.
        """
        if index in self.broken:
            raise self.broken[index]
        return self.images[index], label_of(self.labels, index)


class ImageStream:
    """A stream of images.

    Args:
        rows: A ``datasets.IterableDataset``.
        image_column: Name of the column of images, as files.
        label_column: Name of the column of labels.
        classes: How many there are.
        size: Side of the squares that images are brought to, pixels.
        buffer: Images that are shuffled at a time.
        name: What errors call it.
        length: How many images there are, if that is known.
        remote: Whether images of other machines may be fetched.
    """

    def __init__(
        self,
        rows: datasets.IterableDataset,
        image_column: str,
        label_column: str,
        classes: int,
        size: int,
        buffer: int,
        name: str,
        length: int | None,
        remote: bool = False,
    ):
        self.rows = rows
        self.image_column = image_column
        self.label_column = label_column
        self.classes = classes
        self.size = size
        self.buffer = buffer
        self.name = name
        self.length = length
        self.remote = remote

    def files(self, seed: int | None, epoch: int) -> Iterator[tuple[Encoded, int]]:
        """Yield images, not yet decoded, and labels, in an order that seed and epoch determine.

        Args:
            seed: Of the order; ``None``: as they are stored.
            epoch: Each has an order of its own.

        Raises:
            DataError: If a label is not that of a class, or the stream breaks off.
        """
        rows = self.rows
        if seed is not None:
            rows = rows.shuffle(seed=seed, buffer_size=self.buffer)
            rows.set_epoch(epoch)
        for index, row in enumerate(_unbroken(rows, self.name)):
            label = row[self.label_column]
            if label is None or not 0 <= label < self.classes:
                raise DataError(
                    f"{self.name}: labels must be from 0 to {self.classes - 1}, got {label}"
                )
            place = f"image {index} of epoch {epoch}"
            yield encoded(row[self.image_column], self.name, place, self.remote), label


def label_of(labels: Tensor, index: int) -> int | Tensor:
    """Return the label of an image: a number, or a row of a matrix."""
    return int(labels[index]) if labels.ndim == 1 else labels[index]


def _unbroken(rows: Iterable[dict[str, Any]], name: str) -> Iterator[dict[str, Any]]:
    iterator = iter(rows)
    while True:
        try:
            row = next(iterator)
        except StopIteration:
            return
        except Exception as error:  # of the network, of file systems, of decompression
            raise DataError(f"{name} breaks off: {first_line(error)}") from error
        yield row


def encoded(value: Mapping[str, Any] | None, where: str, place: str, remote: bool) -> Encoded:
    """Take an image as ``datasets`` stores it; a missing one is found broken when it is read."""
    content, path = (value["bytes"], value["path"]) if value else (None, None)
    name = f"{where}, {place} ({path})" if path else f"{where}, {place}"
    return Encoded(name, content or path or b"", remote)


def read_square(image: Encoded, size: int) -> Tensor:
    """Read an image, scale it and keep the middle.

    Args:
        image: A file, read as :func:`fovigraph.read_image` does.
        size: Side of the square, pixels; the image's shorter side is brought to it.

    Returns:
        uint8, ``[3, size, size]``.

    Raises:
        BrokenImage: If it cannot be read.
    """
    file = image.file
    try:
        if isinstance(file, str):
            file = _local(file) if not image.remote or file.startswith("file://") else _fetch(file)
        where = image.name if isinstance(file, bytes) else file
        opened = io.BytesIO(file) if isinstance(file, bytes) else file
        rgb = read_rgb(opened, where, least=2 * size)
    except (ValueError, OSError) as error:
        raise BrokenImage(image.name, first_line(error)) from error
    short = min(rgb.size)
    left, top = ((side - short) // 2 for side in rgb.size)
    square = (left, top, left + short, top + short)
    return pixels_of(rgb.resize((size, size), Image.Resampling.BICUBIC, box=square))


def _local(file: str) -> str:
    """Return the path of a file of this machine.

    Raises:
        ValueError: If it is one of another, or inside of an archive.
    """
    file = file.removeprefix("file://")
    if "://" in file:
        raise ValueError(f"cannot read {file}: files of other machines are not fetched here")
    return file


def _fetch(file: str) -> str | bytes:
    """Return the content of a file that has an address; a path as it is."""
    if "://" not in file:
        return file
    import fsspec

    with fsspec.open(file, "rb") as opened:
        content: bytes = opened.read()
    return content


def first_line(error: BaseException) -> str:
    """Return what an error says, or else what it is."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
