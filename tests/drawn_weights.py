"""Weights that are computed instead of kept: the same wherever they are drawn.

Used by the tests and, under the peer's Python, by `make_upstream_resnets.py`.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import torch


def drawn(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Values for every tensor of a `state_dict`, by name and shape alone.

    As if trained: norms have weights around 1, and statistics that are neither 0 nor 1. Linear
    maps and convolutions, the peer's `[out, in · cells]` and dense ones, are He normal; what LoRA
    adds to them is smaller.
    """
    return {name: _drawn(name, tensor) for name, tensor in state.items()}


def _drawn(name: str, like: torch.Tensor) -> torch.Tensor:
    # A legacy generator: its stream is the same in all versions of numpy.
    random = np.random.RandomState(zlib.crc32(name.encode()))
    shape = tuple(like.shape)
    if not like.is_floating_point():
        return torch.full_like(like, 8)
    if like.dim() > 1:
        size = 0.1 if name.endswith(".0.B") else 1.0
        values = random.standard_normal(shape) * size * (2 / like[0].numel()) ** 0.5
    elif name.endswith(("running_var", "weight")):
        values = random.uniform(0.5, 1.5, shape)
    else:
        values = random.uniform(-0.2, 0.2, shape)
    return torch.from_numpy(values).to(like.dtype)


def dense_resnet18(width: int, classes: int = 5) -> dict[str, torch.Tensor]:
    """Empty tensors with the names and shapes of torchvision's ResNet-18, its first width given."""
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(conv: str, norm: str, channels: int, out_channels: int, size: int) -> None:
        shapes[f"{conv}.weight"] = (out_channels, channels, size, size)
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{name}"] = (out_channels,)
        shapes[f"{norm}.num_batches_tracked"] = ()

    layer("conv1", "bn1", 3, width, 7)
    channels = width
    for stage in range(4):
        for index in range(2):
            block, out_channels = f"layer{stage + 1}.{index}", width * 2**stage
            layer(f"{block}.conv1", f"{block}.bn1", channels, out_channels, 3)
            layer(f"{block}.conv2", f"{block}.bn2", out_channels, out_channels, 3)
            if channels != out_channels:
                layer(f"{block}.downsample.0", f"{block}.downsample.1", channels, out_channels, 1)
            channels = out_channels
    shapes |= {"fc.weight": (classes, channels), "fc.bias": (classes,)}
    whole = {name: torch.int64 for name in shapes if name.endswith("num_batches_tracked")}
    return {
        name: torch.empty(shape, dtype=whole.get(name, torch.float32))
        for name, shape in shapes.items()
    }
