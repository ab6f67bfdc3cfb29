"""A gaze that moves over an image or a video, and what the eye sees there, frame by frame."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.path import Path as Outline
from PIL import Image, ImageDraw
from scipy.spatial import KDTree
from torch import Tensor

from fovigraph._checks import instance, one_of, path_of, positive_int, shown
from fovigraph.geometry import SensorArray
from fovigraph.sensing import Retina
from fovigraph.sensing.fixation import as_fixations, as_floats
from fovigraph.sensing.image import check_images
from fovigraph.viz.arguments import finite_array
from fovigraph.viz.cells import SPACES, as_values, frame
from fovigraph.viz.field import Field
from fovigraph.viz.photograph import Place

KEYS = ("seconds", "row", "column")
"""The columns of a gaze path's file."""

SLACK = 1e-4
"""Seconds by which a frame may be early, as times of frames are rounded."""

GAZE = (255, 157, 46)
"""The colour of the gaze: orange, which stands out on most pictures."""

MARGIN = 8
"""Pixels between the pictures of a frame."""

LARGEST_SIDE = 2160
"""The largest height of a frame, pixels."""


class GazePath:
    """Where the gaze rests, and from when on.

    Args:
        times: When each fixation begins, seconds, increasing, ``[M]``.
        fixations: (row, column) as fractions of the image, ``[M, 2]``.

    Raises:
        ValueError, TypeError: If they are not such, or not as many.

    Example:
        >>> from fovigraph.viz import GazePath
        >>> path = GazePath([0.0, 0.5], [[0.5, 0.5], [0.2, 0.8]])
        >>> path.at(0.7)
        [0.2, 0.8]
    """

    def __init__(self, times: Any, fixations: Any):
        self.times = finite_array("times", _doubles(times))
        if self.times.ndim != 1 or not len(self.times):
            raise ValueError(f"times must be a list of seconds, got shape {list(self.times.shape)}")
        if (np.diff(self.times) <= 0).any():
            raise ValueError(f"times must increase, got {shown(self.times.tolist())}")
        self.fixations = as_fixations(_doubles(fixations)).detach().cpu().double().numpy()
        if self.fixations.shape != (len(self.times), 2):
            raise ValueError(
                f"fixations must have shape [{len(self.times)}, 2], one for every time, got "
                f"{list(self.fixations.shape)}"
            )

    def at(self, seconds: float) -> list[float]:
        """Return where the gaze is at a time: at the last fixation that has begun.

        Raises:
            ValueError: If none has.
        """
        place: list[float] = self.fixations[self.index(seconds)].tolist()
        return place

    def index(self, seconds: float) -> int:
        """Return the last fixation that has begun at a time.

        Raises:
            ValueError: If none has.
        """
        index = int(np.searchsorted(self.times, seconds + SLACK, side="right")) - 1
        if index < 0:
            raise ValueError(
                f"path must begin at {seconds:g} s or before, where there is a frame, got "
                f"{self.times[0]:g} s"
            )
        return index

    def check_within(self, end: float) -> None:
        """Say that all fixations must begin before a video ends."""
        if self.times[-1] >= end:
            raise ValueError(
                f"path must lie within the video, which ends at {end:g} s, got a fixation at "
                f"{self.times[-1]:g} s"
            )


def _doubles(values: Any) -> Any:
    """Numbers of Python's in their own precision; all else as it is."""
    return values if isinstance(values, Tensor | np.ndarray) else np.asarray(values)


def read_gaze_path(path: str | os.PathLike[str]) -> GazePath:
    """Read a path of the gaze from a CSV or JSON file.

    Args:
        path: A CSV file with the columns ``seconds``, ``row`` and ``column``, in a header, or a
            JSON file of a list of objects with these keys. Rows and columns are fractions of the
            image's height and width.

    Raises:
        TypeError: If ``path`` is no path.
        OSError: If it cannot be read.
        ValueError: If it is no such file.
    """
    file = path_of("path", path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"path must be a CSV or JSON file, got {file}: {error.reason}") from error
    suffix = one_of("the suffix of path", file.suffix.lower(), (".csv", ".json"))
    entries = _from_json(file, text) if suffix == ".json" else _from_csv(file, text)
    rows = [_numbers(file, number, entry) for number, entry in enumerate(entries, 1)]
    if not rows:
        raise ValueError(f"path must have at least one fixation, got none in {file}")
    try:
        return GazePath([row[0] for row in rows], [row[1:] for row in rows])
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _from_json(file: os.PathLike[str], text: str) -> list[Any]:
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"path must be a JSON file, got {file}: {error}") from error
    if not isinstance(entries, list):
        raise ValueError(f"{file} must hold a list of fixations, got {shown(entries)}")
    return entries


def _from_csv(file: os.PathLike[str], text: str) -> list[Any]:
    rows = csv.DictReader(text.splitlines(), skipinitialspace=True)
    if not set(rows.fieldnames or ()) >= set(KEYS):
        raise ValueError(
            f"{file} must have the columns {', '.join(KEYS)}, got {shown(rows.fieldnames)}"
        )
    return list(rows)


def _numbers(file: os.PathLike[str], number: int, entry: Any) -> list[float]:
    """The three numbers of a fixation."""
    try:
        if not isinstance(entry, Mapping):
            raise TypeError
        values = [float(entry[key]) for key in KEYS]
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"fixation {number} of {file} must have numbers for {', '.join(KEYS)}, "
            f"got {shown(entry)}"
        ) from None
    if not all(map(math.isfinite, values)):
        raise ValueError(f"fixation {number} of {file} must be finite, got {shown(entry)}")
    return values


class Raster:
    """Draws values on an array's nodes as a picture, every node filling its cell, quickly.

    Args:
        array: The nodes.
        height: Of the picture, pixels, at most 2160.
        space: In the ``"visual"`` field or on a map of the cortex (:func:`flat_map`).

    Attributes:
        size: (height, width) of the picture.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.

    Example:
        >>> import torch
        >>> from fovigraph import SensorArray
        >>> from fovigraph.viz import Raster
        >>> array = SensorArray.matched(16)
        >>> Raster(array, 64)(torch.rand(len(array), 3)).shape
        torch.Size([4, 64, 64])
    """

    def __init__(self, array: SensorArray, height: int, space: str = "visual"):
        self.array = instance("array", array, SensorArray)
        positive_int("height", height, LARGEST_SIDE)
        placed = frame(array, space)
        (left, bottom), (right, top) = placed.box
        width = max(1, round(height / placed.aspect))
        self.size = (height, width)
        x = left + (np.arange(width) + 0.5) * (right - left) / width
        y = top - (np.arange(height) + 0.5) * (top - bottom) / height
        places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        inside = np.zeros(len(places), dtype=bool)
        for outline in placed.outlines:
            inside |= Outline(outline, closed=True).contains_points(places)
        _, nearest = KDTree(placed.points).query(places)
        self._node = torch.from_numpy(placed.nodes[nearest]).reshape(self.size)
        self._inside = torch.from_numpy(inside).reshape(self.size)

    def __call__(self, colors: Tensor | np.ndarray) -> Tensor:
        """Return colours ``[N, 3]`` in [0, 1] as a picture, ``[4, h, w]``, uint8.

        The last channel is 255 within the field, and 0 outside.

        Raises:
            ValueError, TypeError: If the colours do not fit the array.
        """
        given = as_values(self.array, colors, "colors")
        if given.ndim != 2:
            raise ValueError(f"colors must have shape [{len(given)}, 3], got {list(given.shape)}")
        inks = torch.from_numpy((given.clip(0, 1) * 255).round().astype(np.uint8))
        picture = inks[self._node].permute(2, 0, 1) * self._inside
        return torch.cat((picture, 255 * self._inside[None].to(torch.uint8)))


class EyeFrames:
    """Draws what an eye looks at beside what it sees of it: the frames of a video.

    Args:
        retina: The eye.
        height: Of the frames, pixels, at most 2160.
        space: A map of the cortex to show the samples on, too (:func:`flat_map`); ``None``: none.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.

    Example:
        >>> import torch, fovigraph as fg
        >>> from fovigraph.viz import EyeFrames
        >>> frames = EyeFrames(fg.Retina(fg.SensorArray.matched(16)), height=120, space=None)
        >>> frames(torch.rand(3, 80, 160), fixation=(0.5, 0.5), size=(80, 80)).shape
        torch.Size([3, 120, 368])
    """

    def __init__(self, retina: Retina, height: int = 360, space: str | None = "cortical"):
        self.retina = instance("retina", retina, Retina)
        self._height = positive_int("height", height, LARGEST_SIDE)
        array = retina.array
        self._rasters = [Raster(array, height)]
        if space is not None and array.has_cortex:
            one_of("space", space, [each for each in SPACES if each != "visual"])
            # No wider than the visual field, or the cortex would be all that one sees.
            aspect = frame(array, space).aspect
            self._rasters.append(Raster(array, max(1, round(height * min(aspect, 1.0))), space))
        self._outline = Field(array, array.fov / 2).outline() / array.fov  # in views, y up

    @torch.inference_mode()
    def __call__(self, image: Tensor, fixation: Place, size: Place) -> Tensor:
        """Return one frame: the image with the gaze, what the eye sees, and that on the cortex.

        Args:
            image: ``[3, H, W]``, uint8 or float in [0, 1], on the retina's device.
            fixation: (row, column) as fractions of the image.
            size: (height, width) in pixels that the field of view spans.

        Returns:
            ``[3, height, width]``, uint8, on the CPU, of the same size for all images of one size.

        Raises:
            ValueError, TypeError: If an argument is not of the kind said above.
        """
        images = check_images(image)
        if len(images) != 1:
            raise ValueError(f"image must be a single one, [3, H, W], got {list(images.shape)}")
        where = as_fixations(as_floats("fixation", fixation).reshape(1, -1))
        extent = as_floats("size", size).reshape(1, -1)
        to = images.device
        colors = self.retina.colors(images, where[None].to(to), extent[None].to(to))[0, 0]
        panels = [self._photograph(images[0].cpu(), where[0], extent[0])]
        panels += [self._on_black(raster(colors.float().cpu())) for raster in self._rasters]
        gap = torch.zeros(3, self._height, MARGIN, dtype=torch.uint8)
        parts = [part for panel in panels for part in (panel, gap)][:-1]
        return torch.cat(parts, dim=2)

    def _on_black(self, picture: Tensor) -> Tensor:
        """A picture ``[4, h, w]``, in the middle of the frame's height."""
        above = (self._height - picture.shape[1]) // 2
        canvas = torch.zeros(3, self._height, picture.shape[2], dtype=torch.uint8)
        canvas[:, above : above + picture.shape[1]] = picture[:3]
        return canvas

    def _photograph(self, image: Tensor, fixation: Tensor, size: Tensor) -> Tensor:
        """The image, as high as the frame, with the gaze and the field of view."""
        if image.is_floating_point():
            image = (image.clamp(0, 1) * 255).round().to(torch.uint8)
        height, width = image.shape[1:]
        scale = self._height / height
        shown = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
        shown = shown.resize((max(1, round(width * scale)), self._height))
        row, column = (fixation.double() * torch.tensor([height, width]) * scale).tolist()
        down, across = (size.double() * scale).tolist()
        field = self._outline * (across, -down) + (column, row)
        ink = ImageDraw.Draw(shown)
        corners = [tuple(corner) for corner in field.tolist()]
        arm = max(4, self._height // 45)
        for color, line in (((0, 0, 0), 4), (GAZE, 2)):
            ink.line(corners, fill=color, width=line, joint="curve")
            ink.line([(column - arm, row), (column + arm, row)], fill=color, width=line)
            ink.line([(column, row - arm), (column, row + arm)], fill=color, width=line)
        return torch.from_numpy(np.array(shown)).permute(2, 0, 1)


def scan_path_frames(
    frames: EyeFrames, image: Tensor, fixations: Any, sizes: Any
) -> Iterator[Tensor]:
    """Yield a frame for every fixation on an image, each drawn when it is asked for.

    Args:
        frames: What draws them.
        image: ``[3, H, W]``, uint8 or float in [0, 1].
        fixations: (row, column) as fractions of the image, ``[F, 2]``.
        sizes: (height, width) in pixels that the field of view spans, in a shape that broadcasts
            to ``[F, 2]``.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.
    """
    instance("frames", frames, EyeFrames)
    where = as_fixations(fixations).detach().cpu()
    if where.ndim != 2:
        raise ValueError(f"fixations must be those of one image, [F, 2], got {list(where.shape)}")
    extent = as_floats("sizes", sizes).detach().cpu()
    try:
        extent = extent.broadcast_to(where.shape)
    except RuntimeError as error:
        raise ValueError(
            f"sizes must broadcast to the fixations' shape {list(where.shape)}, got "
            f"{list(extent.shape)}"
        ) from error
    return (frames(image, place, size) for place, size in zip(where, extent, strict=True))
