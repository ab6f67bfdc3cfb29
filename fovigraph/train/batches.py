"""Batches of images: in an order that can be taken up anywhere, shared by several processes."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from fovigraph._checks import flag, positive_int, whole_number
from fovigraph.train.images import (
    BrokenImage,
    Encoded,
    ImageSplit,
    ImageStream,
    LoadedImages,
    read_square,
)
from fovigraph.train.source import DataError


class Batch(NamedTuple):
    """One process's share of a batch.

    Attributes:
        images: uint8 ``[b, 3, size, size]``.
        labels: int64 ``[b]``; or bool ``[b, C]``, where an image may have several classes.
        rows: Where each image stands in the whole batch, int64 ``[b]``: from random numbers drawn
            for the whole batch, every process picks its own.
        indices: Where each image stands in the split, int64 ``[b]``; -1 in a stream.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor
    indices: Tensor


class _Share(NamedTuple):
    """Which images of a batch are a process's: rows of the batch, and indices in the split."""

    rows: range
    indices: np.ndarray


class _Part(NamedTuple):
    """The images of a share: a batch of those that can be read, and the errors of the others."""

    batch: Batch
    broken: list[BrokenImage]


class Batches:
    """The batches of a split, epoch by epoch.

    The order of an epoch depends on the seed and the epoch's number only, not on where it is taken
    up, on the number of workers, or on the number of processes, which share every batch: each has
    the next rows of it. Broken images are left out; what else is in a batch stays the same.

    Args:
        split: Images and labels by index, or a stream.
        batch_size: Images in a batch, all processes together.
        shuffle: Whether every epoch has a random order.
        drop_last: Whether images that do not fill a last batch are left out, as in training. If
            not, processes may have shares of different size, and one without a share of the last
            batch does not see it.
        seed: Of the order.
        rank: Which process this is, from 0.
        world_size: How many there are.
        workers: Processes that read and decode; 0: this one does. A stream is read by one process
            with so many threads; what is in memory needs none.
        strict: Whether a broken image is an error.
        pin_memory: Whether batches are in pinned memory, from where a GPU can fetch them.
        order: Which class the split's class 0, 1 and so on is; ``None``: the same.

    Attributes:
        waited: Seconds spent waiting for batches so far.

    Raises:
        DataError: If there are fewer images than a batch has and ``drop_last``.
        ValueError: If the batch cannot be shared evenly and ``drop_last``, or ``rank`` is not one
            of the processes.
    """

    def __init__(
        self,
        split: ImageSplit | ImageStream,
        batch_size: int,
        *,
        shuffle: bool,
        drop_last: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        strict: bool = False,
        pin_memory: bool = False,
        order: Tensor | None = None,
    ):
        self.split = split
        self.batch_size = positive_int("batch_size", batch_size)
        self.shuffle = flag("shuffle", shuffle)
        self.drop_last = flag("drop_last", drop_last)
        self.seed = whole_number("seed", seed)
        self.world_size = positive_int("world_size", world_size)
        self.rank = whole_number("rank", rank)
        self.workers = whole_number("workers", workers)
        self.strict = flag("strict", strict)
        self.pin_memory = flag("pin_memory", pin_memory)
        self.order = order
        if rank >= world_size:
            raise ValueError(f"rank must be from 0 to {world_size - 1}, got {rank}")
        if drop_last and batch_size % world_size:
            raise ValueError(
                f"batch_size must be a multiple of world_size = {world_size}, got {batch_size}"
            )
        images = split.length if isinstance(split, ImageStream) else len(split)
        self.length = None if images is None else self._batches_of(images)
        """Batches of an epoch; ``None`` if that is not known of a stream."""
        if self.length == 0:
            raise DataError(
                f"there must be at least batch_size = {batch_size} images, got {images}"
            )
        self.waited = 0.0
        self._broken: dict[str, BrokenImage] = {}
        self._shares: list[_Share] = []  # of the epoch at hand
        if isinstance(split, LoadedImages):
            self._note(split.broken.values())
        elif not isinstance(split, ImageStream):  # of one loader, so that its workers can stay
            self._loader = self._loader_of(_Reader(split), workers, self._shares)

    @property
    def skipped(self) -> list[BrokenImage]:
        """What was left out so far because it is broken, by ``name``."""
        return list(self._broken.values())

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError("how many batches a stream has is not known before its end")
        return self.length

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, this process's share of each.

        Args:
            epoch: Its number, from 0.
            start: How many batches to leave out, which a run that is resumed has seen.

        Raises:
            BrokenImage: If an image cannot be read and ``strict``.
            DataError: If none of a batch can be read and ``drop_last``, or a stream ends before
                its first batch is complete or breaks off.
        """
        parts = self._parts(epoch, start)
        try:
            while True:
                began = time.perf_counter()
                part = next(parts, None)
                self.waited += time.perf_counter() - began
                if part is None:
                    return
                if isinstance(part, DataError):
                    raise part
                self._note(part.broken)
                if len(part.batch.rows):
                    batch = part.batch
                    if self.order is not None:
                        batch = batch._replace(labels=reordered(batch.labels, self.order))
                    yield batch
                elif self.drop_last:
                    raise DataError(
                        f"none of a batch's images can be read; the first: {part.broken[0]}"
                    )
        finally:
            del parts  # ends its workers, though an error may keep this frame alive

    def _note(self, broken: Iterable[BrokenImage]) -> None:
        for error in broken:
            if self.strict:
                raise error
            self._broken[error.name] = error

    def _batches_of(self, images: int) -> int:
        return images // self.batch_size if self.drop_last else -(-images // self.batch_size)

    def _parts(self, epoch: int, start: int) -> Iterator[_Part | DataError]:
        if isinstance(self.split, ImageStream):
            reader = _StreamReader(self, self.split, epoch, start)
            # Always by one worker: elsewhere, or by more, `datasets` shuffles in another way.
            return iter(self._loader_of(reader, 1))
        shares = self._share_out(len(self.split), epoch, start)
        if isinstance(self.split, LoadedImages):
            return map(partial(_loaded, self.split, self.pin_memory), shares)
        self._shares[:] = shares
        return iter(self._loader)

    def _share_out(self, images: int, epoch: int, start: int) -> Iterator[_Share]:
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(images)
        else:
            order = np.arange(images)
        for batch in range(start, self._batches_of(images)):
            whole = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            rows = _rows(len(whole), self.rank, self.world_size)
            if rows:
                yield _Share(rows, whole[rows.start : rows.stop])

    def _loader_of(
        self, reader: Dataset, workers: int, shares: Iterable[_Share] | None = None
    ) -> DataLoader:
        return DataLoader(
            reader,
            sampler=shares,
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=workers,
            worker_init_fn=_start_worker,
            persistent_workers=workers > 0 and self.shuffle and shares is not None,
            pin_memory=self.pin_memory,
            generator=torch.Generator(),  # torch's global one is left alone
        )


def reordered(labels: Tensor, order: Tensor, classes: int | None = None) -> Tensor:
    """Return labels of other classes.

    Args:
        labels: int64 ``[b]``, or bool ``[b, C]``.
        order: Which class each of theirs is, ``[C]``.
        classes: How many there are; ``None``: as many as before.
    """
    if labels.ndim == 1:
        return order[labels]
    table = labels.new_zeros(len(labels), classes or len(order))
    table[:, order] = labels
    return table


def _as_it_is(part: Any) -> Any:
    return part


def _start_worker(worker: int) -> None:
    torch.set_num_threads(1)
    # Ctrl-C, and a cluster's SIGTERM to all processes of a job, are for the main process to answer,
    # which ends its workers when it has saved the run; by SIGTERM, too, if they do not end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))


def _loaded(split: LoadedImages, pin_memory: bool, share: _Share) -> _Part:
    broken = [index in split.broken for index in share.indices.tolist()]
    whole = ~torch.tensor(broken)
    indices, rows = torch.from_numpy(share.indices)[whole], torch.tensor(share.rows)[whole]
    batch = Batch(split.images[indices], split.labels[indices], rows, indices)
    if pin_memory:
        batch = Batch(*(part.pin_memory() for part in batch))
    return _Part(batch, [split.broken[index] for index in share.indices[broken].tolist()])


class _Reader(Dataset):
    """Reads the shares of batches."""

    def __init__(self, split: ImageSplit):
        self.split = split

    def __getitem__(self, share: _Share) -> _Part:
        indices = share.indices.tolist()
        found = [self._read(index) for index in indices]
        return _part(found, share.rows, indices, self.split.size)

    def _read(self, index: int) -> tuple[Tensor, int | Tensor] | BrokenImage:
        try:
            return self.split[index]
        except BrokenImage as error:
            return error


class _StreamReader(IterableDataset):
    """Reads a process's shares of the batches of a stream, of which every process reads all."""

    def __init__(self, batches: Batches, stream: ImageStream, epoch: int, start: int):
        self.stream = stream
        self.seed = batches.seed if batches.shuffle else None
        self.epoch = epoch
        self.start = start
        self.batch_size = batches.batch_size
        self.drop_last = batches.drop_last
        self.rank = batches.rank
        self.world_size = batches.world_size
        self.threads = max(batches.workers, 1)

    def __iter__(self) -> Iterator[_Part | DataError]:
        try:
            yield from self._parts()
        except DataError as error:  # handed over: raised in a worker, it would become a traceback
            yield error

    def _parts(self) -> Iterator[_Part]:
        files = self.stream.files(self.seed, self.epoch)
        seen = 0
        with ThreadPoolExecutor(self.threads) as pool:
            while whole := list(itertools.islice(files, self.batch_size)):
                if self.drop_last and len(whole) < self.batch_size:
                    break
                seen += 1
                rows = _rows(len(whole), self.rank, self.world_size)
                if rows and seen > self.start:
                    found = list(pool.map(self._read, whole[rows.start : rows.stop]))
                    yield _part(found, rows, [-1] * len(rows), self.stream.size)
        if not seen:
            raise DataError(
                f"{self.stream.name}: there must be at least batch_size = {self.batch_size} "
                f"images, got {len(whole)}"
            )

    def _read(self, file: tuple[Encoded, int]) -> tuple[Tensor, int] | BrokenImage:
        image, label = file
        try:
            return read_square(image, self.stream.size), label
        except BrokenImage as error:
            return error


def _part(
    found: Sequence[tuple[Tensor, int | Tensor] | BrokenImage],
    rows: Sequence[int],
    indices: Sequence[int],
    size: int,
) -> _Part:
    """Make a batch of the images that could be read."""
    read = [
        (row, index, *image)
        for row, index, image in zip(rows, indices, found, strict=True)
        if isinstance(image, tuple)
    ]
    images = torch.empty(len(read), 3, size, size, dtype=torch.uint8)
    for at, (_, _, image, _) in enumerate(read):
        images[at] = image
    labels = [torch.as_tensor(label) for *_, label in read]
    batch = Batch(
        images,
        labels=torch.stack(labels) if labels else torch.empty(0, dtype=torch.int64),
        rows=torch.tensor([row for row, *_ in read], dtype=torch.int64),
        indices=torch.tensor([index for _, index, *_ in read], dtype=torch.int64),
    )
    return _Part(batch, [error for error in found if isinstance(error, BrokenImage)])


def _rows(count: int, rank: int, world_size: int) -> range:
    """Return a process's rows of a batch of ``count`` images."""
    return range(count * rank // world_size, count * (rank + 1) // world_size)
