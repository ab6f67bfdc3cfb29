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


def chunks(ptr: Tensor, width: int = 0) -> Iterator[tuple[int, slice]]:
    """Yield every row that is not empty, in pieces of at most CHUNK numbers, ``width`` an edge.

    Args:
        ptr: Where each row begins, ``[rows + 1]``.
        width: Numbers that one edge of a row needs; 0 keeps rows whole.
    """
    bounds = ptr.tolist()
    step = max(1, CHUNK // width) if width else max(1, bounds[-1])
    for row, (begin, end) in enumerate(pairwise(bounds)):
        for start in range(begin, end, step):
            yield row, slice(start, min(start + step, end))


def sum_dtype(x: Tensor) -> torch.dtype:
    """What sums of ``x`` are kept in: at least float32."""
    return torch.promote_types(x.dtype, torch.float32)


def autocast(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Cast features and weights as ``torch.autocast`` says, if it is on."""
    kind = x.device.type
    if not torch.is_autocast_enabled(kind):
        return x, weight
    dtype = torch.get_autocast_dtype(kind)
    return x.to(dtype), weight.to(dtype)
