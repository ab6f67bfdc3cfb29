"""Checks of what is to be drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from numbers import Integral
from typing import Any

import numpy as np
from torch import Tensor, nn

from fovigraph._checks import shown
from fovigraph.models import Backbone, FoviNet, Optimized
from fovigraph.models.wrapped import unwrapped
from fovigraph.sensing.fixation import as_floats


def check_backbone(backbone: Any) -> Backbone:
    """Return a backbone without wrappers, or say that something is none made of blocks."""
    if isinstance(backbone, FoviNet):
        raise TypeError("backbone must be a network's backbone, got a FoviNet: take net.backbone")
    inside = unwrapped(backbone) if isinstance(backbone, nn.Module) else backbone
    inside = inside.module if isinstance(inside, Optimized) else inside
    if not isinstance(inside, Backbone) or not inside.block_names:
        raise TypeError(f"backbone must be a Backbone made of blocks, got {shown(backbone)}")
    return inside


def optional_text(name: str, value: Any) -> None:
    """Check that something is a string or None."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be a string or None, got {shown(value)}")


def finite_array(name: str, values: Any) -> np.ndarray:
    """Return numbers as an array in double precision, or say that ``name`` must be finite ones."""
    array: np.ndarray = as_floats(name, values).detach().cpu().double().numpy()
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return array


def index_below(name: str, value: Any, count: int, where: str = "") -> int:
    """Return an index, or say that ``name`` must be a whole number below ``count``."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number, got {shown(value)}")
    if not 0 <= int(value) < count:
        raise ValueError(f"{name} must be from 0 to {count - 1}{where}, got {shown(value)}")
    return int(value)


def indices_below(name: str, values: Any, count: int, where: str = "") -> list[int]:
    """Return indices as a list, or say that ``name`` must be whole numbers below ``count``."""
    if isinstance(values, (Tensor, np.ndarray)):
        values = values.tolist()
    if isinstance(values, (str, bytes, Mapping, Set)) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list of whole numbers, got {shown(values)}")
    return [index_below(name, value, count, where) for value in values]
