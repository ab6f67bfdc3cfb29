"""Anti-aliased sampling: the mean of an image over each node's own cell, from a mip-map.

A mip-map (Williams 1983, "Pyramidal parametrics") is the image at full size, half size, a quarter
and so on, each pixel the mean of four. A node reads the two levels whose pixels are nearest in size
to its cell, so its cost does not depend on how large its cell is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

CELL_PER_PIXEL = math.sqrt(3.0)
"""A cell's side over that of the pixels read for it. Bilinear interpolation among pixels of side p
averages with variance p² / 4 along each axis, the mean over a square of side s with s² / 12."""


def mean_over_cells(images: Tensor, places: Tensor, sides: Tensor) -> Tensor:
    """Return the mean of images over square cells; outside, an image is 0.

    Differentiable with respect to images and places.

    Args:
        images: ``[B, C, H, W]``, floating point, or uint8, which stands for [0, 1].
        places: The cells' centres, (row, column) in pixels from the image's top left corner,
            ``[B, F, N, 2]``.
        sides: The cells' sides in pixels, ``[B, F, N]``. Cells smaller than √3 pixels are
            interpolated between pixels.

    Returns:
        ``[B, F, N, C]``; of the images' type, float32 for uint8.
    """
    top = max(1, math.ceil(math.log2(max(images.shape[-2:]))))
    level = (sides.detach() / CELL_PER_PIXEL).log2().clamp(0, top)
    low = level.floor().clamp(max=top - 1)
    coarse = _Texels(_halved(images, top), first=1)
    fine = _Texels([images], first=0)
    near = torch.where(
        low[..., None] > 0,
        coarse.interpolated(places, low.clamp(min=1)),
        fine.interpolated(places, torch.zeros_like(low)),
    )
    mean = near + (level - low)[..., None] * (coarse.interpolated(places, low + 1) - near)
    return mean.to(_result_dtype(images))


def _result_dtype(images: Tensor) -> torch.dtype:
    return torch.float32 if images.dtype == torch.uint8 else images.dtype


def _halved(images: Tensor, count: int) -> list[Tensor]:
    """Return images at 1/2, 1/4, … 1/2^count of their size, each pixel the mean of four.

    Sizes are rounded up; what is missing of the last row or column is 0, as all outside is.
    """
    levels: list[Tensor] = []
    image, scale = images, 1 / (4 * 255) if images.dtype == torch.uint8 else 1 / 4
    for _ in range(count):
        height, width = image.shape[-2:]
        if height % 2 or width % 2:
            image = F.pad(image, (0, width % 2, 0, height % 2))
        total = image[..., ::2, ::2].to(_result_dtype(images), copy=True)
        for rows, columns in ((0, 1), (1, 0), (1, 1)):
            total += image[..., rows::2, columns::2]
        image, scale = total * scale, 1 / 4
        levels.append(image)
    return levels


class _Texels:
    """The pixels of some levels of a mip-map, one after the other.

    Args:
        levels: ``[B, C, h, w]`` each.
        first: Number of the first level; its pixels are 2^first times as large as the image's.
    """

    def __init__(self, levels: Sequence[Tensor], first: int):
        flat = [level.flatten(2) for level in levels]
        self.values = (flat[0] if len(flat) == 1 else torch.cat(flat, dim=-1)).movedim(1, -1)
        self.first = first
        sizes = torch.tensor([level.shape[-2:] for level in levels])
        starts = sizes.prod(dim=1).cumsum(0) - sizes.prod(dim=1)
        table = torch.cat((sizes, starts[:, None]), dim=1)
        self.table = table.to(levels[0].device, non_blocking=True)

    def interpolated(self, places: Tensor, level: Tensor) -> Tensor:
        """Interpolate a level for every place, ``[B, F, N, 2]`` and ``[B, F, N]``, bilinearly."""
        height, width, start = self.table[level.long() - self.first].unbind(-1)
        row, column = (places / level.exp2()[..., None] - 0.5).unbind(-1)
        top, left = row.detach().floor(), column.detach().floor()
        image = torch.arange(len(places), device=places.device)[:, None, None]
        total: Tensor | None = None
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
            r, c = top + down, left + right
            inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
            index = torch.where(inside, start + r * width + c, 0).long()
            weight = (1 - (row - r).abs()) * (1 - (column - c).abs())
            value = self.values[image, index]
            value = value / 255 if value.dtype == torch.uint8 else value
            part = torch.where(inside, weight, 0.0)[..., None] * value
            total = part if total is None else total + part
        assert total is not None  # there are four corners
        return total
