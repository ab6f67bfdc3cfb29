"""Anti-aliased sampling: the mean of an image over each node's own cell, from a mip-map.

A mip-map (Williams 1983, "Pyramidal parametrics") is the image at full size, half size, a quarter
and so on, each pixel the mean of four. A node reads the two levels whose pixels are nearest in size
to its cell, so its cost does not depend on how large its cell is. All levels lie in one image, the
atlas, from which a single call of ``grid_sample`` reads every node's two.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fovigraph._tensors import may_inspect

CELL_PER_PIXEL = math.sqrt(3.0)
"""A cell's side over that of the pixels read for it. Bilinear interpolation among pixels of side p
averages with variance p² / 4 along each axis, the mean over a square of side s with s² / 12."""

GAP = 2
"""Black pixels between the levels of an atlas."""


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
    dtype = torch.float32 if images.dtype == torch.uint8 else images.dtype
    level = (sides.detach() / CELL_PER_PIXEL).log2()
    most = math.ceil(math.log2(max(images.shape[-2:])))
    if may_inspect(level) and level.numel():
        most = min(most, math.ceil(level.max().item()))
    most = max(1, most)
    level = level.clamp(0, most)
    fine = level.int().clamp(max=most - 1)
    atlas = _atlas(images, most, torch.promote_types(dtype, torch.float32))
    near, far = atlas.interpolated(places, torch.stack((fine, fine + 1)))
    mean = torch.lerp(near, far, (level - fine)[:, None].to(near.dtype))
    mean = mean / 255 if images.dtype == torch.uint8 else mean
    return mean.movedim(1, -1).to(dtype)


class _Atlas(NamedTuple):
    """The levels of mip-maps in one image: the first at the left, the others in a column beside it.

    Attributes:
        image: ``[B, C, H', W']``; ``GAP`` rows between levels, and as many columns, are 0.
        table: Where each level lies, in (x, y) as ``grid_sample`` counts them, ``[4, levels, 2]``:
            its top left corner, the same a pixel further out, the bottom right corner a pixel
            further out, and the image's pixel.
    """

    image: Tensor
    table: Tensor

    def interpolated(self, places: Tensor, level: Tensor) -> Tensor:
        """Interpolate levels at every place, bilinearly.

        Args:
            places: In pixels of the image itself, ``[B, F, N, 2]``.
            level: Numbers of levels, k of them for every place, ``[k, B, F, N]`` or broadcasting.

        Returns:
            ``[k, B, C, F, N]``.
        """
        rows = self.table.index_select(1, level.flatten())
        corner, least, most, pixel = rows.view(4, *level.shape, 2)
        # A pixel beyond its edge a level is 0, and so is all that is further out.
        grid = torch.addcmul(corner, places.flip(-1).to(pixel.dtype), pixel).clamp(least, most)
        values = F.grid_sample(self.image, grid.movedim(0, 1).flatten(1, 2), align_corners=False)
        return values.unflatten(2, (len(level), -1)).movedim(2, 0)


def _atlas(images: Tensor, count: int, dtype: torch.dtype) -> _Atlas:
    """Return the atlas of images ``[B, C, H, W]`` and of them halved ``count`` ≥ 1 times."""
    height, width = images.shape[-2:]
    boxes = [(0, 0, height, width)]
    top, down, right = 0, height, width
    for _ in range(count):
        down, right = -(-down // 2), -(-right // 2)
        boxes.append((top, width + GAP, top + down, width + GAP + right))
        top += down + GAP
    across, down = boxes[1][3] - width, max(0, boxes[-1][2] - height)
    image = F.pad(images, (0, across, 0, down)).to(dtype)
    level = images if images.dtype == torch.uint8 else images.to(dtype)
    for top, left, bottom, right in boxes[1:]:
        level = _halved(level)
        image[..., top:bottom, left:right] = level

    y, x = (2 / size for size in image.shape[-2:])
    table = [
        [(left * x - 1, top * y - 1) for top, left, _, _ in boxes],
        [((left - 1) * x - 1, (top - 1) * y - 1) for top, left, _, _ in boxes],
        [((right + 1) * x - 1, (bottom + 1) * y - 1) for _, _, bottom, right in boxes],
        [(x / 2**i, y / 2**i) for i in range(count + 1)],
    ]
    return _Atlas(image, torch.tensor(table, dtype=dtype).to(images.device, non_blocking=True))


def _halved(images: Tensor) -> Tensor:
    """Return images at half their size, each pixel the mean of four; of uint8 in single precision.

    Sizes are rounded up; what is missing of the last row or column is 0, as all outside is.
    """
    height, width = images.shape[-2:]
    if height % 2 or width % 2:
        images = F.pad(images, (0, width % 2, 0, height % 2))
    wide = torch.int16 if images.dtype == torch.uint8 else images.dtype  # that holds a sum of four
    rows = images[..., ::2, :].to(wide) + images[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]) / 4
