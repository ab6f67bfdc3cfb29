"""The photograph: as pixels that matplotlib shows, and in degrees around a point of gaze."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from torch import Tensor

from fovigraph.sensing.fixation import as_floats
from fovigraph.sensing.image import check_images, native

LARGEST_AREA = 1_000_000
"""Largest area, pixels: larger photographs are averaged down before they are drawn."""

LARGEST_SIDE = 8000
"""Longest side, pixels: photographs with a longer one are averaged down, too."""

Place = Tensor | np.ndarray | Sequence[float]
"""(row, column) of a fixation as fractions of the image, or (height, width) of a view in pixels."""


class Photograph(NamedTuple):
    """An image made ready to be drawn.

    Attributes:
        pixels: ``[h, w, 3]``, float in [0, 1], of limited size.
        height, width: Of the image itself, pixels.
    """

    pixels: np.ndarray
    height: int
    width: int

    def extent(self, fixation: Place, size: Place, fov: float) -> tuple[float, float, float, float]:
        """Return (left, right, bottom, top) of the image in degrees from the point of gaze."""
        row, column = _pair("fixation", fixation)
        view_height, view_width = _pair("size", size)
        across, down = fov / view_width, fov / view_height  # degrees per pixel
        left, top = -column * self.width * across, row * self.height * down
        return left, left + self.width * across, top - self.height * down, top


def photograph(image: Tensor | np.ndarray) -> Photograph:
    """Take an image ``[3, H, W]``, uint8 or float in [0, 1], as :func:`fovigraph.read_image` does.

    Raises:
        ValueError, TypeError: If it is not such an image.
    """
    if isinstance(image, np.ndarray):
        image = torch.from_numpy(native(image, "image"))
    images = check_images(image).detach().cpu()
    if len(images) != 1:
        raise ValueError(f"image must be a single one, [3, H, W], got {list(images.shape)}")
    height, width = images.shape[-2:]
    scale = min(math.sqrt(LARGEST_AREA / (height * width)), LARGEST_SIDE / max(height, width))
    if scale < 1:
        images = _averaged(images, max(1, round(height * scale)), max(1, round(width * scale)))
    return Photograph(_floats(images)[0].clamp(0, 1).permute(1, 2, 0).numpy(), height, width)


def _averaged(images: Tensor, height: int, width: int) -> Tensor:
    """Average images down, a row at a time, so that none becomes floating point as a whole."""
    averaged = torch.empty(*images.shape[:2], height, width, dtype=torch.float32)
    for row in range(height):
        start, end = row * images.shape[2] // height, -(-(row + 1) * images.shape[2] // height)
        band = _floats(images[:, :, start:end])
        averaged[:, :, row : row + 1] = F.interpolate(band, (1, width), mode="area")
    return averaged


def _floats(images: Tensor) -> Tensor:
    return (images / 255 if images.dtype == torch.uint8 else images).float()


def draw_view(
    ax: Axes, photo: Photograph, fixation: Place, size: Place, fov: float
) -> tuple[float, float, float, float]:
    """Draw a photograph, in degrees around the point of gaze, on black.

    The limits of the axes stay the caller's. Returns the extent.
    """
    extent = photo.extent(fixation, size, fov)
    ax.imshow(photo.pixels, extent=extent, interpolation="antialiased", zorder=0)
    ax.set_facecolor("black")
    return extent


def _pair(name: str, value: Place) -> tuple[float, float]:
    pair = as_floats(name, value).detach().cpu().double()
    if pair.shape != (2,) or not pair.isfinite().all():
        raise ValueError(f"{name} must be two finite numbers, got {value!r}")
    first, second = pair.tolist()
    if name == "size" and min(first, second) <= 0:
        raise ValueError(f"size must be above 0 pixels, got {value!r}")
    return first, second
