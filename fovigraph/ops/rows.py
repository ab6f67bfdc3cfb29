"""How features are laid out and walked through by the operators."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

CHUNK = 1 << 21
"""Numbers held at a time between gathering and scattering: 8 MB of float32, near a CPU's cache."""


def node_rows(x: Tensor) -> Tensor:
    """Turn ``[B, N, C]`` into ``[N, B · C]``: one edge then moves one stretch of memory."""
    batch, nodes, channels = x.shape
    return x.transpose(0, 1).reshape(nodes, batch * channels)


def from_node_rows(rows: Tensor, batch: int, channels: int, relu: bool = False) -> Tensor:
    """Undo :func:`node_rows`, and in the same pass set to zero what is negative, if asked to."""
    x = rows.view(len(rows), batch, channels).transpose(0, 1)
    return torch.clamp_min(x, 0, out=x.new_empty(x.shape)) if relu else x.contiguous()


def node_columns(x: Tensor) -> Tensor:
    """Turn ``[B, N, C]`` into ``[N, C · B]``: a node's edges then stack into ``[edges · C, B]``."""
    batch, nodes, channels = x.shape
    return x.permute(1, 2, 0).reshape(nodes, channels * batch)


def chunks(ptr: Tensor, width: int) -> Iterator[tuple[int, slice]]:
    """Yield every row that is not empty, in pieces of at most CHUNK numbers.

    Args:
        ptr: Where each row begins, ``[rows + 1]``.
        width: Numbers that one edge of a row needs.
    """
    step = max(1, CHUNK // max(1, width))
    for row, (begin, end) in enumerate(pairwise(ptr.tolist())):
        for start in range(begin, end, step):
            yield row, slice(start, min(start + step, end))


def equal_rows(ptr: Tensor, width: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield rows of equal length together, at most CHUNK numbers at a time.

    Args:
        ptr: Where each row begins, ``[rows + 1]``.
        width: Numbers that one edge of a row needs.

    Returns:
        Indices of rows, ``[n]``, and positions of their edges, ``[n, length]``.
    """
    length, rows = ptr.diff().sort(stable=True)
    lengths, counts = length.unique_consecutive(return_counts=True)
    for size, same in zip(lengths.tolist(), rows.split(counts.tolist()), strict=True):
        if size:
            within = torch.arange(size, device=ptr.device)
            for part in same.split(max(1, CHUNK // max(1, size * width))):
                yield part, ptr[part, None] + within


def sum_dtype(x: Tensor) -> torch.dtype:
    """What sums of ``x`` are kept in: at least float32."""
    return torch.promote_types(x.dtype, torch.float32)


def finish(out: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    """Add a bias to sums ``[*, O]`` and set to zero what is then negative, in place."""
    if bias is not None:
        out += bias
    return out.relu_() if relu else out
