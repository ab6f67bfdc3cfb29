"""Values on the nodes of an array, gathered into hexagonal bins."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from torch import Tensor

from fovigraph._checks import one_of, positive_int
from fovigraph.geometry import SensorArray
from fovigraph.viz import style
from fovigraph.viz.arguments import optional_text
from fovigraph.viz.cells import SPACES, Frame, as_values, frame, mark_gaze
from fovigraph.viz.field import Field

MOST_BINS = 500
"""The most bins from side to side."""


def plot_bins(
    array: SensorArray,
    values: Tensor | np.ndarray,
    *,
    bins: int = 30,
    space: str = "visual",
    label: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw numbers on the nodes of an array in hexagonal bins: the mean over the nodes of each.

    Bins without a node stay empty, so that the density of nodes is seen too.

    Args:
        array: The nodes.
        values: A number for each, ``[N]``.
        bins: How many from side to side, from 1 to 500.
        space: In the ``"visual"`` field (degrees), or on a map of the cortex (:func:`flat_map`):
            ``"cortical"``, ``"v1like"``, ``"schwartz"``, ``"warp"``.
        label: What the numbers are, with their unit, for the colour bar.
        ax: Where to draw; a new figure if ``None``.

    Returns:
        The figure.

    Raises:
        ValueError, TypeError: If ``values`` do not fit the array, there is no such space, or an
            argument is of another type.

    Example:
        >>> from fovigraph import SensorArray
        >>> from fovigraph.viz import plot_bins
        >>> array = SensorArray.matched(16)
        >>> figure = plot_bins(array, array.eccentricity, bins=12, label="eccentricity (degrees)")
    """
    one_of("space", space, SPACES)
    positive_int("bins", bins, MOST_BINS)
    optional_text("label", label)
    given = as_values(array, values)
    if given.ndim != 1:
        raise ValueError(f"values must be numbers, [{len(array)}], got {list(given.shape)}")
    placed = frame(array, space)
    figure, ax = style.on_axes(ax, *((6, 6.5) if placed.aspect > 0.8 else (4.5, 8)))
    hexagons = _draw(ax, placed, given, bins)
    mark_gaze(ax, array, space)
    figure.colorbar(hexagons, ax=ax, label=label or "value", shrink=0.8)
    return figure


def draw_bins(
    ax: Axes,
    array: SensorArray,
    values: np.ndarray,
    space: str,
    bins: int,
    *,
    field: Field | None = None,
    **options: Any,
) -> PolyCollection:
    """Draw numbers ``[N]`` as :func:`plot_bins`, within a field, and set the axes up.

    What lies below the scale is light grey. Further options are those of ``Axes.hexbin``.
    """
    return _draw(ax, frame(array, space, field), values, bins, **options)


def _draw(ax: Axes, placed: Frame, values: np.ndarray, bins: int, **options: Any) -> PolyCollection:
    (left, bottom), (right, top) = placed.box
    # As high as they are wide, by 2 / √3: regular ones.
    rows = max(1, round(bins / math.sqrt(3) * placed.aspect))
    hexagons = ax.hexbin(
        placed.points[:, 0],
        placed.points[:, 1],
        C=values[placed.nodes],
        gridsize=(bins, rows),
        extent=(left, right, bottom, top),
        reduce_C_function=np.mean,
        cmap=colormaps[style.COLORMAP].with_extremes(under=style.UNREACHED),
        linewidths=0.2,
        **options,
    )
    for outline in placed.outlines:
        ax.plot(*outline.T, color="#767676", linewidth=0.8)
    placed.set_up(ax)
    return hexagons
