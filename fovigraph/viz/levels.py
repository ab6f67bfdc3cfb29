"""Where every level of a pyramid samples, in the visual field and on the cortex."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from fovigraph._checks import instance, one_of
from fovigraph.geometry import SensorArray
from fovigraph.graph import GraphPyramid
from fovigraph.viz import style
from fovigraph.viz.array import COLORINGS, plot_nodes
from fovigraph.viz.field import drawn_nodes
from fovigraph.viz.flatmap import MAPS


def plot_levels(
    pyramid: GraphPyramid, *, color: str = "eccentricity", kind: str = "cortical"
) -> Figure:
    """Draw the nodes of every level in the visual field and, beside it, on a map of the cortex.

    Levels that follow one another on the same array share a pair of panels.

    Args:
        pyramid: The levels.
        color: What nodes are coloured by: ``"eccentricity"`` or ``"polar_angle"``.
        kind: The map (:func:`flat_map`): ``"cortical"``, ``"v1like"``, ``"schwartz"``, ``"warp"``.

    Returns:
        The figure, two pairs of panels in a row, from the retina up; an array without a cortex has
        one panel.

    Raises:
        ValueError, TypeError: If ``pyramid`` is no pyramid, or there is no such colouring or map.

    Example:
        >>> import fovigraph as fg
        >>> from fovigraph.viz import plot_levels
        >>> pyramid = fg.GraphPyramid(fg.SensorArray.matched(16), [fg.Step("conv", k=9, stride=2)])
        >>> len(plot_levels(pyramid, kind="v1like").axes) >= 4
        True
    """
    instance("pyramid", pyramid, GraphPyramid)
    one_of("color", color, COLORINGS)
    one_of("kind", kind, MAPS)
    levels = _distinct(pyramid)
    columns = min(2, len(levels))
    rows = math.ceil(len(levels) / columns)
    figure = style.new_figure(height=3.4 * rows + 0.7, width=7.5 * columns)
    parts = figure.subfigures(rows, columns, squeeze=False).flat
    for part, (names, array) in zip(parts, levels, strict=False):
        panels = part.subplots(1, 2 if array.has_cortex else 1, squeeze=False)[0]
        for ax, space in zip(panels, ("visual", kind), strict=False):
            plot_nodes(array, color=color, space=space, ax=ax, colorbar=False)
            ax.tick_params(labelsize=7)
            for axis in (ax.xaxis, ax.yaxis):
                axis.label.set_fontsize(7)
        part.suptitle(f"{', '.join(names)}: {len(drawn_nodes(array)):,} nodes", fontsize=10)
    title = "The nodes of every level, in the visual field and on the cortex"
    figure.suptitle(title, **style.TITLE)
    return figure


def _distinct(pyramid: GraphPyramid) -> list[tuple[list[str], SensorArray]]:
    """Every array, and the names of the levels in a row that lie on it."""
    levels: list[tuple[list[str], SensorArray]] = []
    for name, array in zip(pyramid.names, pyramid.levels, strict=True):
        if levels and levels[-1][1] == array:
            levels[-1][0].append(name)
        else:
            levels.append(([name], array))
    return levels
