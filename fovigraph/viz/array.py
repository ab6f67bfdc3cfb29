"""A sensor array: where it samples, how densely, and the surface it lies on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import EllipseCollection
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import Axes3D

from fovigraph._checks import flag, instance, one_of
from fovigraph.geometry import SensorArray
from fovigraph.viz import style
from fovigraph.viz.cells import (
    SPACES,
    circle,
    draw_cells,
    eccentricity_ticks,
    frame,
    mark_gaze,
)
from fovigraph.viz.field import Field, drawn_nodes, to_nearest
from fovigraph.viz.flatmap import MAPS, map_labels

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as PlotlyFigure

COLORINGS = ("eccentricity", "polar_angle")
"""What nodes can be coloured by."""

CYCLIC_COLORMAP = "twilight_shifted"
"""A colour map for angles: cyclic and perceptually uniform."""

DARK_COLORMAP: Colormap = LinearSegmentedColormap.from_list(
    "plasma_dark", colormaps["plasma"](np.linspace(0.0, 0.6, 64))
)
"""A colour map for dots on white: the dark part of a perceptually uniform one."""

DOT = 0.7
"""Diameter of a dot, as a share of the distance to the nearest one."""


def plot_sampling(
    array: SensorArray, *, color: str = "eccentricity", kind: str = "cortical"
) -> Figure:
    """Draw an array in the visual field and on the cortex, and its spacing.

    Args:
        array: The nodes.
        color: What they are coloured by: ``"eccentricity"`` or ``"polar_angle"``.
        kind: The map of the cortex (:func:`flat_map`): ``"cortical"``, ``"v1like"``,
            ``"schwartz"`` or ``"warp"``.

    Returns:
        The figure, of three panels; of two, if the array has no cortex.

    Raises:
        ValueError, TypeError: If ``color`` or ``kind`` is another, or ``array`` is no array.
    """
    instance("array", array, SensorArray)
    one_of("color", color, COLORINGS)
    one_of("kind", kind, MAPS)
    figure = style.new_figure(height=9.4 if array.has_cortex else 5.0)
    rows = 2 if array.has_cortex else 1
    grid = figure.add_gridspec(rows, 2, height_ratios=(1.15, 1)[:rows])
    visual = figure.add_subplot(grid[0, 0])
    plot_nodes(array, color=color, ax=visual)
    visual.set_title(f"In the visual field: {len(drawn_nodes(array)):,} samples")
    plot_spacing(array, ax=figure.add_subplot(grid[0, 1]))
    if array.has_cortex:
        cortex = figure.add_subplot(grid[1, :])
        plot_nodes(array, color=color, space=kind, ax=cortex)
        cortex.set_title("The same samples on the flattened cortex: evenly spaced")
    figure.suptitle("Where the retina samples, and how densely", **style.TITLE)
    return figure


def plot_nodes(
    array: SensorArray,
    *,
    color: str = "eccentricity",
    space: str = "visual",
    colorbar: bool = True,
    ax: Axes | None = None,
) -> Figure:
    """Draw the nodes of an array as dots or, for the polar angle, as the cells around them.

    Args:
        array: The nodes.
        color: What they are coloured by: ``"eccentricity"`` or ``"polar_angle"``.
        space: ``"visual"``: in the visual field, degrees; or on a map of the cortex
            (:func:`~fovigraph.viz.flat_map`): ``"cortical"``, ``"v1like"``, ``"schwartz"``,
            ``"warp"``.
        colorbar: Whether to say what the colours mean.
        ax: Where to draw; a new figure if ``None``.

    Returns:
        The figure.

    Raises:
        ValueError, TypeError: If ``color`` or ``space`` is another, or an argument of another type.
    """
    values, options, label = _coloring(array, color)
    placed = frame(array, one_of("space", space, SPACES))
    figure, ax = style.on_axes(ax, *((6, 6.5) if placed.aspect > 0.8 else (4.5, 8)))
    scale = ScalarMappable(**options)
    if color == "polar_angle":  # a scale that passes through white
        draw_cells(ax, array, scale.to_rgba(values), space)
    else:
        _draw_dots(ax, placed.points, scale.to_rgba(values[placed.nodes]))
    for outline in placed.outlines:
        ax.plot(*outline.T, color="#767676", linewidth=0.8)
    mark_gaze(ax, array, space)
    placed.set_up(ax)
    if not flag("colorbar", colorbar):
        return figure
    bar = figure.colorbar(scale, ax=ax, shrink=0.7, label=label)
    if color == "polar_angle":
        bar.set_ticks([0, 90, 180, 270, 360])
    return figure


def _draw_dots(ax: Axes, points: np.ndarray, colors: np.ndarray) -> None:
    """Draw a dot at every point, each as large as there is room for."""
    apart = to_nearest(points)
    size = DOT * np.where(apart > 0, apart, 1.0)
    dots = EllipseCollection(
        size,
        size,
        np.zeros(len(points)),
        units="xy",
        offsets=points,
        offset_transform=ax.transData,
        facecolors=colors,
        linewidths=0,
    )
    ax.add_collection(dots, autolim=False)


def plot_spacing(array: SensorArray, *, ax: Axes | None = None) -> Figure:
    """Draw the distance between neighbouring nodes against eccentricity, with its law.

    Args:
        array: The nodes.
        ax: Where to draw; a new figure if ``None``.

    Returns:
        The figure. The law is that of the layout: in proportion to r + a, or the same everywhere
        for lattices of pixels.

    Raises:
        TypeError: If ``array`` is no array, or ``ax`` no axes.
    """
    instance("array", array, SensorArray)
    figure, ax = style.on_axes(ax, 4.5, 6)
    nodes = drawn_nodes(array)
    spacing, law = node_spacing(array)[nodes], spacing_law(array)[nodes]
    eccentricity = array.eccentricity.numpy()[nodes]
    ax.plot(
        eccentricity,
        spacing,
        ".",
        color=style.COLORS[6],
        markersize=3,
        alpha=0.5,
        label="from each node to its nearest neighbour",
    )
    order = eccentricity.argsort(kind="stable")
    ax.plot(
        eccentricity[order],
        law[order],
        color=style.COLORS[5],
        linewidth=2,
        label=f"law, along a radius:\n{_law_text(array, eccentricity, law)}",
    )
    ax.set(xlabel="eccentricity (degrees)", ylabel="spacing (degrees)")
    ax.set(xlim=(0, None), ylim=(0, 1.2 * max(law.max(), spacing.max())))
    ax.set_title("Spacing of samples")
    ax.legend(frameon=False, loc="upper left")
    return figure


def node_spacing(array: SensorArray) -> np.ndarray:
    """Return the distance from every node to the nearest at another place, ``[N]``, degrees.

    Masked nodes are near to nothing: theirs is NaN.

    Raises:
        TypeError: If ``array`` is no array.
    """
    instance("array", array, SensorArray)
    spacing, nodes = np.full(len(array), np.nan), drawn_nodes(array)
    spacing[nodes] = to_nearest(array.degrees.numpy()[nodes])
    return spacing


def spacing_law(array: SensorArray) -> np.ndarray:
    """Return the distance between rings, or lattice lines, at every node, ``[N]``, degrees.

    For rings, their step in ln(r + a) times r + a: the magnification's inverse, up to a factor.

    Raises:
        TypeError: If ``array`` is no array.
    """
    instance("array", array, SensorArray)
    return array._layout.spacing(array.eccentricity).numpy()


def _law_text(array: SensorArray, eccentricity: np.ndarray, law: np.ndarray) -> str:
    """Write a spacing law, where it is one of the two simple ones."""
    if np.allclose(law, law[0]):
        return f"{law[0]:.3g}°, everywhere"
    step = law / (eccentricity + array.cmf_a)
    if np.allclose(step, step[0]):
        return f"{step[0]:.3g} · (eccentricity + {array.cmf_a:g}°)"
    return "that of the layout"


def plot_manifold(
    array: SensorArray, *, color: str = "eccentricity", ax: Axes3D | None = None
) -> Figure:
    """Draw the nodes on the cortical surface, in three dimensions, the point of gaze marked.

    A cortex of two dimensions lies in a plane.

    Args:
        array: The nodes.
        color: What they are coloured by: ``"eccentricity"`` or ``"polar_angle"``.
        ax: Where to draw, with ``projection="3d"``; a new figure if ``None``.

    Returns:
        The figure.

    Raises:
        ValueError, TypeError: If ``color`` is another, ``ax`` has two dimensions, or the array has
            no cortex.
    """
    values, options, label = _coloring(array, color)
    points = _on_surface(array)
    if ax is None:
        figure = style.new_figure(height=7, width=8)
        ax = figure.add_subplot(projection="3d")
    elif isinstance(ax, Axes3D):
        figure, _ = style.on_axes(ax, 0, 0)
    else:
        raise TypeError(f"ax must have projection='3d', got {type(ax).__name__}")
    nodes = drawn_nodes(array)
    size = float(np.clip(2.4e4 / len(nodes), 2, 40))
    dots = ax.scatter(
        *points[nodes].T, c=values[nodes], s=size, linewidths=0, depthshade=False, **options
    )
    for curve in _rings(array):
        ax.plot(*curve.T, color="#4d4d4d", linewidth=0.7)
    gaze = points[int(array.eccentricity.argmin())].tolist()
    ax.plot(*([g] for g in gaze), "*", color=style.COLORS[5], markersize=15, zorder=10)
    ax.text(*gaze, "     point of gaze", color=style.COLORS[5], fontweight="bold", zorder=11)
    ax.set(**dict(zip(("xlabel", "ylabel", "zlabel"), _surface_labels(array), strict=True)))
    ax.set_aspect("equal")
    ax.locator_params(nbins=5)
    ax.view_init(elev=14, azim=-60)
    bar = figure.colorbar(dots, ax=ax, shrink=0.6, pad=0.12, label=label)
    if color == "polar_angle":
        bar.set_ticks([0, 90, 180, 270, 360])
    ax.set_title("The cortical surface, on which\nsamples are evenly spaced", **style.TITLE)
    return figure


def plotly_manifold(array: SensorArray, *, color: str = "eccentricity") -> PlotlyFigure:
    """Return :func:`plot_manifold` as a figure of plotly, to be turned with the mouse.

    Raises:
        ImportError: If plotly is missing (the extra ``viz``).
        ValueError, TypeError: If ``color`` is another, ``array`` is no array, or has no cortex.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise ImportError(
            "interactive figures need plotly: pip install 'fovigraph[viz]'"
        ) from error
    values, options, label = _coloring(array, color)
    nodes, points = drawn_nodes(array), _on_surface(array)
    scale = [
        [share, f"rgb{tuple(int(255 * c) for c in options['cmap'](share)[:3])}"]
        for share in np.linspace(0, 1, 17).tolist()
    ]
    degrees = np.degrees(array.polar_angle.numpy())
    hover = "unit %{customdata[0]}<br>eccentricity %{customdata[1]:.2f}°<br>polar angle "
    x, y, z = points[nodes].T
    samples = go.Scatter3d(
        x=x,
        y=y,
        z=z,
        mode="markers",
        marker={
            "size": float(np.clip(120 / math.sqrt(len(nodes)), 2, 8)),
            "color": values[nodes],
            "colorscale": scale,
            "colorbar": {"title": {"text": label}},
        },
        customdata=np.stack((nodes, array.eccentricity.numpy()[nodes], degrees[nodes]), axis=-1),
        hovertemplate=hover + "%{customdata[2]:.0f}°<extra></extra>",
        name="samples",
    )
    gx, gy, gz = points[int(array.eccentricity.argmin())].tolist()
    gaze = go.Scatter3d(
        x=[gx],
        y=[gy],
        z=[gz],
        mode="markers+text",
        marker={"size": 7, "symbol": "diamond", "color": style.COLORS[5]},
        text=["point of gaze"],
        hoverinfo="skip",
        name="point of gaze",
    )
    lines = [
        go.Scatter3d(
            x=curve[:, 0],
            y=curve[:, 1],
            z=curve[:, 2],
            mode="lines",
            line={"color": "#4d4d4d", "width": 2},
            hoverinfo="skip",
        )
        for curve in _rings(array)
    ]
    labels = _surface_labels(array)
    axes = {
        f"{axis}axis": {"title": {"text": label}} for axis, label in zip("xyz", labels, strict=True)
    }
    return go.Figure(
        [samples, gaze, *lines],
        {
            "title": {"text": "The cortical surface, on which samples are evenly spaced"},
            "scene": {**axes, "aspectmode": "data"},
            "showlegend": False,
        },
    )


def _on_surface(array: SensorArray) -> np.ndarray:
    """Cortical coordinates of the nodes, ``[N, 3]``: a flat cortex is at the height 0."""
    points = array.cortical.numpy()
    return np.pad(points, ((0, 0), (0, 3 - points.shape[1])))


def _surface_labels(array: SensorArray) -> tuple[str, str, str]:
    """What the axes of the surface are."""
    if not array._layout.relative:
        return "x (mm)", "y (mm)", "z (mm)"
    return (*map_labels(array, "cortical"), "")


def _rings(array: SensorArray) -> list[np.ndarray]:
    """Curves of equal eccentricity on the surface, the field's edge among them, ``[361, 3]``."""
    if array._layout.sheet:
        return []
    curves = []
    for eccentricity in [*eccentricity_ticks(array), Field(array).edge]:
        x, y = circle(1.0).T
        angle = torch.from_numpy(np.arctan2(y, x))
        polar = torch.stack((torch.full_like(angle, eccentricity), angle), dim=-1)
        curves.append(array._layout.cortical(polar, array.manifold).numpy())
    return curves


def _coloring(array: SensorArray, color: str) -> tuple[np.ndarray, dict[str, Any], str]:
    """Values of the nodes, options of a scatter plot for them, and what they are."""
    instance("array", array, SensorArray)
    if one_of("color", color, COLORINGS) == "eccentricity":
        eccentricity = array.eccentricity.numpy()
        most = max(array.fov / 2, float(eccentricity[drawn_nodes(array)].max()))
        options = {"cmap": DARK_COLORMAP, "norm": Normalize(0, most)}
        return eccentricity, options, "eccentricity (degrees)"
    angle = np.degrees(array.polar_angle.numpy()) % 360
    options = {"cmap": colormaps[CYCLIC_COLORMAP], "norm": Normalize(0, 360)}
    return angle, options, "polar angle (degrees)"
