"""Checks of tensors; apart from the others, which do without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from fovigraph._checks import shown

Shape = tuple[int | str, ...]
"""Sizes, or names of those that may be any; a leading ``"..."`` stands for any dimensions."""


def may_inspect(values: Tensor) -> bool:
    """Whether looking at values is free: no accelerator to wait for, no graph to break."""
    return values.device.type == "cpu" and has_values(values)


def has_values(values: Tensor) -> bool:
    """Whether a tensor has values of its own, outside of ``torch.compile`` and ``torch.func``."""
    return not (torch.compiler.is_compiling() or is_functorch_wrapped_tensor(values))


def if_channels_first(given: Sequence[int], nodes: int | None) -> str:
    """Return what to say of a shape whose last two sizes seem exchanged; nothing otherwise."""
    if len(given) < 2 or given[-1] != nodes or given[-2] == nodes:
        return ""
    return (
        ": these are features [..., channels, nodes], and x.transpose(-1, -2) is "
        "[..., nodes, channels]"
    )


def real_tensor(name: str, value: Any, shape: Shape = ("...",)) -> Tensor:
    """Return ``value``, or say that ``name`` must be a tensor of real numbers, of such a shape."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor of real numbers, got {shown(value)}")
    if value.dtype == torch.bool or value.is_complex():
        raise TypeError(f"{name} must be real numbers, got {value.dtype}")
    return _shaped(name, value, shape)


def float_tensor(name: str, value: Any, shape: Shape = ("...",)) -> Tensor:
    """Return ``value``, or say that ``name`` must be floating point, of such a shape."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a floating-point torch.Tensor, got {shown(value)}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {value.dtype}")
    return _shaped(name, value, shape)


def index_tensor(name: str, value: Any, shape: Shape) -> Tensor:
    """Return ``value``, or say that ``name`` must be an int64 tensor of such a shape."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be an int64 torch.Tensor, got {shown(value)}")
    if value.dtype != torch.int64:
        raise TypeError(f"{name} must be torch.int64, got {value.dtype}")
    return _shaped(name, value, shape)


def check_below(name: str, index: Tensor, **count: int) -> None:
    """Say that ``name`` must be at least 0 and below a count, given by its own name."""
    if not index.numel() or not may_inspect(index):
        return
    ((what, most),) = count.items()
    low, high = (int(end) for end in index.aminmax())
    if low < 0 or high >= most:
        raise ValueError(f"{name} must be at least 0 and below {what}={most}, got {low} to {high}")


def finite(name: str, values: Tensor) -> Tensor:
    """Return ``values``, or say that ``name`` must be finite, where that can be seen for free."""
    if may_inspect(values) and not values.isfinite().all():
        bad = values.detach()[~values.isfinite()]
        raise ValueError(
            f"{name} must be finite, got {bad[0].item()} ({len(bad)} of {values.numel()} are not)"
        )
    return values


def same_device(**tensors: Tensor | None) -> None:
    """Say that tensors must be on one device: that of the first."""
    first, *others = ((name, tensor) for name, tensor in tensors.items() if tensor is not None)
    for name, tensor in others:
        if tensor.device != first[1].device:
            raise ValueError(
                f"{name} must be on {first[1].device} like {first[0]}, got it on {tensor.device}"
            )


def _shaped(name: str, value: Tensor, shape: Shape) -> Tensor:
    leading = shape[:1] == ("...",)
    wanted = shape[1:] if leading else shape
    given = value.shape[max(0, value.dim() - len(wanted)) :] if leading else value.shape
    fits = len(given) == len(wanted) and all(
        isinstance(size, str) or size == got for size, got in zip(wanted, given, strict=True)
    )
    if not fits:
        raise ValueError(
            f"{name} must have shape [{', '.join(map(str, shape))}], got {list(value.shape)}"
        )
    return value
