"""Weights that are computed instead of kept: the same wherever they are drawn.

Used by the tests and, under the peer's Python, by `make_upstream_resnets.py`.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import torch


def drawn(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Values for every tensor of the peer's `state_dict`, by name and shape alone.

    As if trained: norms have weights around 1, and statistics that are neither 0 nor 1. A linear
    map or a convolution, `[out, in · cells]`, is He normal.
    """
    return {name: _drawn(name, tensor) for name, tensor in state.items()}


def _drawn(name: str, like: torch.Tensor) -> torch.Tensor:
    # A legacy generator: its stream is the same in all versions of numpy.
    random = np.random.RandomState(zlib.crc32(name.encode()))
    shape = tuple(like.shape)
    if not like.is_floating_point():
        return torch.full_like(like, 8)
    if like.dim() == 2:
        values = random.standard_normal(shape) * (2 / shape[1]) ** 0.5
    elif name.endswith(("running_var", "weight")):
        values = random.uniform(0.5, 1.5, shape)
    else:
        values = random.uniform(-0.2, 0.2, shape)
    return torch.from_numpy(values).to(like.dtype)
