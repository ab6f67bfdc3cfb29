"""Dense networks on log-polar images, whose first row follows the last."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fovigraph._checks import instance

_CONVS, _MAX, _MEAN = nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d


def around(module: nn.Module) -> nn.Module:
    """Return a copy of a dense network whose convolutions and pools reach around an image's rows.

    For log-polar images (``logpolar_image``), whose rows are angles: rows are padded with those of
    the other end, columns with what pads them in torch (zeros, for maxima what never wins). The
    padding is ``kernel // 2 · dilation``, so that strides alone make images smaller. Weights and
    their names stay.

    Args:
        module: Any module with ``Conv2d``, ``MaxPool2d`` and ``AvgPool2d`` in it, at any depth.

    Raises:
        TypeError: If ``module`` is no module.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from fovigraph.nn import around
        >>> image = torch.eye(4)[None, None]
        >>> mean = around(nn.AvgPool2d(3, 1, 1))
        >>> bool(torch.equal(mean(image.roll(1, dims=-2)), mean(image).roll(1, dims=-2)))
        True
    """
    module = copy.deepcopy(instance("module", module, nn.Module))
    for part in module.modules():
        if isinstance(part, (_CONVS, _MAX, _MEAN)):
            _reach_around(part)
    return module


def _reach_around(part: Any) -> None:
    if getattr(part, "_fovigraph_around", False):
        return
    dilation = getattr(part, "dilation", 1)
    sides = zip(_pair(part.kernel_size), _pair(dilation), strict=True)
    rows, columns = (size // 2 * apart for size, apart in sides)
    part.padding = 0 if isinstance(part, (_MAX, _MEAN)) else (0, 0)
    if isinstance(part, _CONVS):
        part.padding_mode = "zeros"
        part._reversed_padding_repeated_twice = [0, 0, 0, 0]
    fill = -torch.inf if isinstance(part, _MAX) else 0.0
    part.register_forward_pre_hook(_Pad(rows, columns, fill))
    part._fovigraph_around = True


class _Pad:
    """Pads the images that a module is called with."""

    def __init__(self, rows: int, columns: int, fill: float):
        self.rows, self.columns, self.fill = rows, columns, fill

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        images, *rest = inputs
        if self.rows > images.shape[-2]:
            raise ValueError(
                f"images must have at least {self.rows} rows to reach around, got shape "
                f"{list(images.shape)}"
            )
        batched = images if images.ndim == 4 else images[None]
        padded = functional.pad(batched, (0, 0, self.rows, self.rows), mode="circular")
        padded = functional.pad(padded, (self.columns, self.columns), value=self.fill)
        return (padded if images.ndim == 4 else padded[0], *rest)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
