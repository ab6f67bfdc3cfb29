"""What every convolution does with its operands first: check them, cast them."""

from __future__ import annotations

import torch
from torch import Tensor

from fovigraph._checks import flag, instance
from fovigraph._tensors import float_tensor, if_channels_first, same_device
from fovigraph.graph import KernelMap


def operands(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    kernel_map: KernelMap,
    relu: bool = False,
    depthwise: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Check the operands of a convolution, and cast them as ``torch.autocast`` says.

    Args:
        x, weight, bias, kernel_map, relu: As :func:`fovigraph.ops.knn_conv` has them.
        depthwise: Whether outputs are those of every channel by itself.

    Raises:
        ValueError: If they are on different devices, or do not have the kernel map's sizes.
        TypeError: If they are of different dtypes, or are not what they should be.
    """
    instance("kernel_map", kernel_map, KernelMap)
    flag("relu", relu)
    if floating("x", x).dim() < 2 or x.shape[-2] != kernel_map.num_src:
        raise ValueError(
            f"x must be [..., {kernel_map.num_src} nodes, channels], got shape {list(x.shape)}"
            f"{if_channels_first(x.shape, kernel_map.num_src)}"
        )
    if floating("weight", weight).dim() != 3 or weight.shape[:2] != (
        kernel_map.num_cells,
        x.shape[-1],
    ):
        raise ValueError(
            f"weight must be [{kernel_map.num_cells} cells, {x.shape[-1]} channels, outputs], "
            f"got shape {list(weight.shape)}"
        )
    outputs = weight.shape[2] * (weight.shape[1] if depthwise else 1)
    if bias is not None and floating("bias", bias).shape != (outputs,):
        raise ValueError(f"bias must be [{outputs} outputs], got shape {list(bias.shape)}")
    same_device(x=x, weight=weight, bias=bias, kernel_map=kernel_map.dst)
    dtype = autocast_dtype(x, weight, bias)
    if dtype is not None:
        return x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and tensor.dtype != x.dtype:
            raise TypeError(f"{name} must be {x.dtype} like x, got {tensor.dtype}")
    return x, weight, bias


def floating(name: str, value: Tensor) -> Tensor:
    """Return ``value``, or say that ``name`` must be a floating-point tensor; called often."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value
    return float_tensor(name, value)


def autocast_dtype(x: Tensor, *others: Tensor | None) -> torch.dtype | None:
    """Return what ``torch.autocast`` casts the operands of a product to, ``None`` if to nothing.

    As for torch's own layers: float64 is left alone.
    """
    if x.device.type == "meta" or not torch.is_autocast_enabled(x.device.type):
        return None
    if any(tensor is not None and tensor.dtype == torch.float64 for tensor in (x, *others)):
        return None
    return torch.get_autocast_dtype(x.device.type)
