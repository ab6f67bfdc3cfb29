"""What every convolution does with its operands first: check them, cast them."""

from __future__ import annotations

import torch
from torch import Tensor

from fovigraph._tensors import if_channels_first
from fovigraph.graph import KernelMap


def operands(
    x: Tensor, weight: Tensor, bias: Tensor | None, kernel_map: KernelMap, depthwise: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Check the operands of a convolution, and cast them as ``torch.autocast`` says.

    Args:
        x, weight, bias, kernel_map: As :func:`fovigraph.ops.knn_conv` has them.
        depthwise: Whether outputs are those of every channel by itself.

    Raises:
        ValueError: If they are on different devices, or do not have the kernel map's sizes.
        TypeError: If they are of different dtypes.
    """
    if x.dim() < 2 or x.shape[-2] != kernel_map.num_src:
        raise ValueError(
            f"x must be [..., {kernel_map.num_src} nodes, channels], got shape {list(x.shape)}"
            f"{if_channels_first(x.shape, kernel_map.num_src)}"
        )
    if weight.dim() != 3 or weight.shape[:2] != (kernel_map.num_cells, x.shape[-1]):
        raise ValueError(
            f"weight must be [{kernel_map.num_cells} cells, {x.shape[-1]} channels, outputs], "
            f"got shape {list(weight.shape)}"
        )
    outputs = weight.shape[2] * (weight.shape[1] if depthwise else 1)
    if bias is not None and bias.shape != (outputs,):
        raise ValueError(f"bias must be [{outputs} outputs], got shape {list(bias.shape)}")
    same_device(x, weight=weight, bias=bias, kernel_map=kernel_map.dst)
    if x.device.type != "meta" and torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        return x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and tensor.dtype != x.dtype:
            raise TypeError(f"{name} must be {x.dtype} like x, got {tensor.dtype}")
    return x, weight, bias


def same_device(x: Tensor, **others: Tensor | None) -> None:
    """Refuse what is not on the device of ``x``."""
    for name, tensor in others.items():
        if tensor is not None and tensor.device != x.device:
            raise ValueError(f"{name} must be on {x.device} like x, got it on {tensor.device}")
