"""What all pictures share: sizes, colours, and axes in degrees or millimetres."""

from __future__ import annotations

from typing import Any

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
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    ax.set_xlabel("right of the point of gaze (degrees)")
    ax.set_ylabel("above the point of gaze (degrees)")
    for axis in (ax.xaxis, ax.yaxis):  # the same places on both
        axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 4, 5, 10]))


def cortical_axes(ax: Axes, limits: tuple[float, float]) -> None:
    """Set axes up for the flattened cortex out to ``limits`` millimetres to the sides and up."""
    ax.set(xlim=(-limits[0], limits[0]), ylim=(-limits[1], limits[1]), aspect="equal")
    ax.set_xlabel("left – right on the flattened cortex (mm)")
    ax.set_ylabel("down – up (mm)")
