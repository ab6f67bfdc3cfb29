"""One unit's receptive field, followed down through a pyramid to the photograph."""

from __future__ import annotations

import math

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from scipy import ndimage
from torch import Tensor

from fovigraph._checks import flag, instance, one_of, positive_int
from fovigraph.geometry import SensorArray
from fovigraph.graph import GraphPyramid
from fovigraph.viz import style
from fovigraph.viz.bins import MOST_BINS, draw_bins
from fovigraph.viz.cells import (
    SPACES,
    draw_cells,
    frame,
    nearest_node,
    node_cells,
    pixels_degrees,
)
from fovigraph.viz.field import Field, check_takes_part, drawn_nodes, nearest_drawn
from fovigraph.viz.photograph import Photograph, Place, draw_view, photograph

SPECK = 0.05
"""Share of the area of a field's largest part: smaller parts and holes are not outlined."""


def example_unit(pyramid: GraphPyramid) -> tuple[int, int]:
    """Choose a unit whose receptive field is worth a look.

    Returns:
        The index of the highest level where the unit nearest to a place right of and above the
        point of gaze, half-way to the edge, is reached by at most half of the retina's nodes
        (level 1 if there is none); and the index of that unit.

    Raises:
        TypeError, ValueError: If ``pyramid`` is no pyramid, or has no level above the retina.
    """
    instance("pyramid", pyramid, GraphPyramid)
    choice = None
    for level in range(1, len(pyramid)):
        array = pyramid.levels[level]
        aim = array.cartesian.new_tensor([0.4, 0.25])
        unit = nearest_drawn(array, aim)
        reached = len(pyramid.receptive_field(level, unit).nodes)
        if choice is None or reached <= len(drawn_nodes(pyramid.levels[0])) / 2:
            choice = level, unit
    if choice is None:
        raise ValueError(f"pyramid must have a level above the retina, got {pyramid}")
    return choice


def plot_receptive_field(
    pyramid: GraphPyramid,
    level: int | str,
    unit: int,
    *,
    image: Tensor | np.ndarray | None = None,
    fixation: Place = (0.5, 0.5),
    size: Place | None = None,
    space: str = "visual",
    binary: bool = False,
    bins: int | None = None,
) -> Figure:
    """Draw which nodes of every lower level reach a unit, down to the photograph.

    Args:
        pyramid: The levels and graphs.
        level: The unit's level, by index or name.
        unit: The unit's index within its level.
        image: A photograph, ``[3, H, W]``, uint8 or float in [0, 1], for a last panel that shows
            what of it the unit sees; ``None`` for no such panel.
        fixation: Where the eye looks in it, (row, column) as fractions.
        size: (height, width) in pixels that the field of view spans; ``None``: a square as long as
            the image's shorter side.
        space: Whether nodes are drawn in the ``"visual"`` field (degrees) or on a map of the cortex
            (:func:`flat_map`): ``"cortical"``, ``"v1like"``, ``"schwartz"``, ``"warp"``.
        binary: Whether to show only which nodes reach the unit, not by how many paths.
        bins: How many hexagonal bins to gather the nodes into, from side to side (on small levels
            fewer), each coloured by the mean of its nodes; ``None``: every node fills its own cell.

    Returns:
        The figure: a panel for each level, from the unit's down to the retina, and the photograph.
        Colour is the number of paths from a node to the unit, relative to the most on its level,
        unless ``binary``.

    Raises:
        ValueError, TypeError: If there is no such level, unit or space, or the rest is not of the
            kind said above.
    """
    instance("pyramid", pyramid, GraphPyramid)
    one_of("space", space, SPACES)
    flag("binary", binary)
    if bins is not None:
        positive_int("bins", bins, MOST_BINS)
    top = pyramid.level_index(level)
    check_takes_part(pyramid.levels[top], unit)
    weights = [_weights(pyramid, top, unit, source) for source in range(top, -1, -1)]
    if binary:
        weights = [np.sign(weight) for weight in weights]
    photo = None if image is None else photograph(image)
    panels = top + 1 + (photo is not None)
    columns = panels if panels <= 3 else 2 if panels == 4 else 3 if panels <= 6 else 4
    rows = math.ceil(panels / columns)
    side = style.WIDTH / columns * min(max(frame(pyramid.levels[0], space).aspect, 0.66), 1.0)
    figure = style.new_figure(height=(side + 0.3) * rows + 1.6)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes[panels:]:
        ax.set_axis_off()

    for step, (ax, weight) in enumerate(zip(axes, weights, strict=False)):
        _draw_level(ax, pyramid, top - step, weight, space, bins)
        ax.set_title(_title(pyramid, top, step, weight), fontsize=10)
    _mark_unit(axes[0], pyramid, top, unit, space)
    if photo is not None:
        if size is None:
            size = (min(photo.height, photo.width),) * 2
        ax = axes[panels - 1]
        _draw_seen(ax, photo, pyramid.levels[0], weights[-1], fixation, size)
        title = f"{panels}. In the photograph, in colour\nwhere the unit sees it"
        ax.set_title(title, fontsize=10)

    _label(axes[:panels], columns, space)
    if binary:
        figure.supxlabel("yellow: the node reaches the unit; grey: it does not", fontsize=10)
    else:
        _explain_paths(figure, axes, photo is not None)
    figure.suptitle(
        f"What one unit of level {pyramid.names[top]!r} sees: its receptive field, level by level",
        **style.TITLE,
    )
    return figure


def _explain_paths(figure: Figure, axes: list[Axes], on_photograph: bool) -> None:
    scale = ScalarMappable(Normalize(0, 1), colormaps[style.COLORMAP])
    bar = figure.colorbar(scale, ax=axes, location="bottom", shrink=0.5, aspect=40, pad=0.03)
    bar.set_label(
        "number of paths from a node to the unit, as a share of the most on its level; grey: none\n"
        "(a path follows edges of the graphs upwards)"
        + ("; yellow lines: half of the most (solid), any (dashed)" if on_photograph else "")
    )


def _label(axes: list[Axes], columns: int, space: str) -> None:
    """Leave labels to the outer panels, where all show the same space, and make them fit."""
    for index, ax in enumerate(axes):
        if index % columns and space == "visual":
            ax.set_ylabel("")
        if index + columns < len(axes):
            ax.set_xlabel("")
        for axis in (ax.xaxis, ax.yaxis):
            axis.label.set_fontsize(9 if columns < 4 else 6.5)


def _weights(pyramid: GraphPyramid, top: int, unit: int, source: int) -> np.ndarray:
    """Paths from every node of a level to the unit, relative to the most, ``[N]``."""
    field = pyramid.receptive_field(top, unit, source)
    paths = torch.zeros(len(pyramid.levels[source]), dtype=torch.float64)
    paths[field.nodes] = field.paths / field.paths.max().clamp_min(1)
    return paths.numpy()


def _draw_level(
    ax: Axes, pyramid: GraphPyramid, level: int, weight: np.ndarray, space: str, bins: int | None
) -> None:
    array, field = pyramid.levels[level], Field(pyramid.levels[0])
    if bins is not None:
        most = round(math.sqrt(len(array)))  # or nearly all bins would be empty
        draw_bins(ax, array, weight, space, min(bins, most), field=field, vmin=1e-9, vmax=1)
        return
    colors = colormaps[style.COLORMAP](weight)
    colors[weight == 0] = to_rgba(style.UNREACHED)
    line = 0.6 if len(array) <= 300 else 0.25 if len(array) <= 1200 else 0.0
    draw_cells(
        ax,
        array,
        colors,
        space,
        field=field,
        edgecolors="white" if line else "face",
        linewidths=line or 0.4,
    )


def _title(pyramid: GraphPyramid, top: int, step: int, weight: np.ndarray) -> str:
    level = top - step
    name, nodes = pyramid.names[level], len(drawn_nodes(pyramid.levels[level]))
    if step == 0:
        return f"1. The unit: one of the\n{nodes:,} nodes of {name!r}"
    reached = int((weight > 0).sum())
    what = "samples" if level == 0 else "nodes"
    return f"{step + 1}. {name!r}: {reached:,} of\n{nodes:,} {what} reach it"


def _mark_unit(ax: Axes, pyramid: GraphPyramid, level: int, unit: int, space: str) -> None:
    cell = node_cells(pyramid.levels[level], space)[unit]
    ax.fill(*cell.T, facecolor="none", edgecolor="black", linewidth=1.5, clip_on=True)


def _draw_seen(
    ax: Axes,
    photo: Photograph,
    retina: SensorArray,
    weight: np.ndarray,
    fixation: Place,
    size: Place,
) -> None:
    """Draw the photograph, dim and grey, and lit in colour where the retina's nodes are reached."""
    grey = photo.pixels.mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    extent = draw_view(ax, photo._replace(pixels=0.5 * grey), fixation, size, retina.fov)
    light = _spread(retina, weight, photo.pixels.shape[:2], extent)[..., None]
    # The root lets the outskirts be seen as well.
    ax.imshow(np.concatenate((photo.pixels, np.sqrt(light)), axis=-1), extent=extent, zorder=1)

    limit = 1.03 * Field(retina).limit
    style.visual_axes(ax, limit)
    field = _spread(retina, weight, (400, 400), (-limit, limit, -limit, limit))
    for level, line in ((0.5, "-"), (1e-9, "--")):
        ax.contour(
            _cleaned(field >= level).astype(float),
            levels=[0.5],
            extent=(-limit, limit, limit, -limit),
            colors=style.COLORS[3],
            linewidths=1.2,
            linestyles=line,
        )
    ax.plot(*Field(retina, retina.fov / 2).outline().T, color="white", linewidth=0.8)


def _cleaned(region: np.ndarray) -> np.ndarray:
    """Leave out parts of a region, and fill holes in it, that are much smaller than its largest.

    They come from single nodes that have a path more, or fewer, than those around them.
    """
    least = SPECK * _parts(region)[1].max(initial=0)
    for inside in (False, True):
        labels, areas = _parts(region == inside)
        small = np.append(areas < least, False)[labels - 1]  # −1 where there is no part
        region = np.where(small, not inside, region)
    return region


def _parts(region: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the connected parts of a region from 1 on, 0 outside it; and their areas in pixels."""
    labels, count = ndimage.label(region)
    return labels, np.bincount(labels.ravel(), minlength=count + 1)[1:]


def _spread(
    retina: SensorArray,
    weight: np.ndarray,
    shape: tuple[int, ...],
    extent: tuple[float, float, float, float],
) -> np.ndarray:
    """Give every pixel of a picture the value of its nearest node, 0 beyond the field."""
    node = nearest_node(retina, pixels_degrees(shape[0], shape[1], extent))
    return np.where(node >= 0, weight[node], 0.0).reshape(shape)
