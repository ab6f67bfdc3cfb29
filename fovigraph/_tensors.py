"""Checks of tensors; apart from the others, which do without torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fovigraph._checks import shown


def may_inspect(values: Tensor) -> bool:
    """Whether looking at values is free: no accelerator to wait for, no graph to break."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def real_tensor(name: str, value: Any, last: int | None = None) -> Tensor:
    """Return ``value``, or say that ``name`` must be a tensor of real numbers.

    Args:
        name: What errors call it.
        value: The value.
        last: Size that the last dimension must have.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor of real numbers, got {shown(value)}")
    if value.dtype == torch.bool or value.is_complex():
        raise TypeError(f"{name} must be real numbers, got {value.dtype}")
    if last is not None and (value.dim() == 0 or value.shape[-1] != last):
        raise ValueError(f"{name} must have shape [..., {last}], got {list(value.shape)}")
    return value
