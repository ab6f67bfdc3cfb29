"""What all pictures share: sizes, colours and axes."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fovigraph._checks import instance

WIDTH = 10.0
"""Width of a whole picture in inches; at :data:`DPI` 1600 pixels."""

DPI = 160

COLORS = ("#E69F00", "#56B4E9", "#CC79A7", "#F0E442", "#009E73", "#D55E00", "#0072B2")
"""Okabe and Ito's colours, which are distinct with any kind of colour vision."""

COLORMAP = "viridis"
"""Perceptually uniform, and readable with any kind of colour vision."""

PROJECTION_COLORMAP = "Oranges"
"""One hue, from light to dark: for what a unit reaches, next to what reaches it."""

VISUAL_LABELS = (
    "right of the point of gaze (degrees)",
    "above the point of gaze (degrees)",
)
"""What the axes of the visual field are."""

TITLE: dict[str, Any] = {"fontsize": 14, "fontweight": "bold"}
"""Options of the text above a whole picture."""

UNREACHED = "#E4E4E4"
"""Light grey: nodes without a value."""


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Return an empty figure, inches, that lays its panels out by itself."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def on_axes(ax: Axes | None, height: float, width: float) -> tuple[Figure, Axes]:
    """Return ``ax`` and its figure, or the axes of a new figure of that size in inches."""
    if ax is None:
        figure = new_figure(height, width)
        return figure, figure.add_subplot()
    instance("ax", ax, Axes, allowed="matplotlib axes or None")
    figure = ax.figure if isinstance(ax.figure, Figure) else ax.figure.figure
    return figure, ax


def halo(width: float = 2.0, color: str = "black") -> list[patheffects.AbstractPathEffect]:
    """Return path effects that keep a light line or text readable on any picture."""
    return [patheffects.withStroke(linewidth=width, foreground=color)]


def visual_axes(ax: Axes, limit: float) -> None:
    """Set axes up for the visual field out to ``limit`` degrees."""
    map_axes(ax, np.array([-limit, -limit]), np.array([limit, limit]), VISUAL_LABELS)


def map_axes(ax: Axes, low: np.ndarray, high: np.ndarray, labels: tuple[str, str]) -> None:
    """Set axes up for a map from the x and y of ``low`` to those of ``high``, with their labels."""
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    ax.set(xlabel=labels[0], ylabel=labels[1])
    if np.allclose(low, -high) and np.isclose(*high):
        for axis in (ax.xaxis, ax.yaxis):  # the same places on both
            axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 4, 5, 10]))
