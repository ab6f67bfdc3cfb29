"""The pyramid as a graph: drawn, and in the formats of networkx and Graphviz."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from fovigraph._checks import instance
from fovigraph.graph import GraphPyramid
from fovigraph.viz import style
from fovigraph.viz.field import Field, check_takes_part, drawn_nodes, nearest_drawn
from fovigraph.viz.receptive_field import example_unit

if TYPE_CHECKING:
    import networkx

TILT = 0.3
"""Height over width of a level that is seen from the side."""

MOST_EDGES = 600
"""The most edges that are drawn between two levels."""


def plot_pyramid(
    pyramid: GraphPyramid,
    level: int | str | None = None,
    unit: int | None = None,
    *,
    ax: Axes | None = None,
) -> Figure:
    """Draw the levels one above the other, and the edges by which one unit is reached.

    Args:
        pyramid: The levels and graphs.
        level, unit: The unit; ``None``: one that sees at most half of the retina.
        ax: Where to draw; a new figure if ``None``.

    Returns:
        The figure: nodes in the visual field, seen from the side, the retina at the bottom; beside
        each level its nodes, and k, cells and edges of the step that leads to it.

    Raises:
        ValueError, TypeError: If there is no such level or unit.
    """
    instance("pyramid", pyramid, GraphPyramid)
    example = example_unit(pyramid) if len(pyramid) > 1 else (0, 0)
    top = example[0] if level is None else pyramid.level_index(level)
    if unit is None:
        aim = pyramid.levels[example[0]].cartesian[example[1]]
        unit = nearest_drawn(pyramid.levels[top], aim)
    check_takes_part(pyramid.levels[top], unit)
    fields = [pyramid.receptive_field(top, unit, source).nodes.numpy() for source in range(top + 1)]
    field = Field(pyramid.levels[0])
    edge, outline = field.limit, field.outline()
    gap = 2.2 * TILT * edge
    figure, ax = style.on_axes(ax, 0.98 * len(pyramid) + 1.2, 8.5)
    places = [
        array.degrees.numpy() * (1, TILT) + (0, index * gap)
        for index, array in enumerate(pyramid.levels)
    ]
    for index in range(top):
        _draw_edges(ax, pyramid, index, places, fields)
    for index, row in enumerate(pyramid.rows()):
        points, rim = places[index], outline * (1, TILT) + (0, index * gap)
        ax.fill(*rim.T, facecolor="#F4F4F4", edgecolor="#767676", alpha=0.75, zorder=2 * index)
        drawn = points[drawn_nodes(pyramid.levels[index])]
        size = float(np.clip(900 / len(drawn), 0.5, 14))
        dots: dict[str, Any] = {"linewidths": 0, "zorder": 2 * index + 0.2}
        ax.scatter(drawn[:, 0], drawn[:, 1], size, "#9A9A9A", **dots)
        if index <= top:
            shade = colormaps[style.COLORMAP](0.85 * index / max(top, 1))
            x, y = points[fields[index]].T
            ax.scatter(x, y, 2.2 * size, [shade], **{**dots, "zorder": 2 * index + 0.4})
        ax.text(1.12 * edge, index * gap, _row_text(row, index), va="center", fontsize=10)
    ax.plot(*places[top][unit], "o", color=style.COLORS[5], markersize=8, zorder=2 * top + 0.6)
    ax.set(xlim=(-1.05 * edge, 2.75 * edge), aspect="equal")
    ax.set(ylim=(-1.1 * TILT * edge, (len(pyramid) - 1) * gap + 1.15 * TILT * edge))
    ax.set_axis_off()
    what = f"unit {unit} of {pyramid.names[top]!r} (orange-red) and all that reaches it, in colour"
    ax.set_title(f"The pyramid: {len(pyramid)} levels, from the retina up;\n{what}", **style.TITLE)
    return figure


def pyramid_networkx(pyramid: GraphPyramid) -> networkx.MultiDiGraph:
    """Return every unit and every edge as a graph of networkx.

    Nodes are ``(level, unit)``, with ``x`` and ``y`` (degrees), ``eccentricity`` (degrees),
    ``polar_angle`` (radians) and the ``level``'s name. Edges go up, with ``kind`` and ``distance``
    (that of the graph) and, for a convolution, the kernel ``cell``.

    Raises:
        ImportError: If networkx is missing (the extra ``viz``).
        TypeError: If ``pyramid`` is no pyramid.
    """
    instance("pyramid", pyramid, GraphPyramid)
    try:
        import networkx
    except ImportError as error:
        raise ImportError("export needs networkx: pip install 'fovigraph[viz]'") from error
    graph = networkx.MultiDiGraph()
    for name, array in zip(pyramid.names, pyramid.levels, strict=True):
        degrees = array.degrees.tolist()
        for unit, ((x, y), (r, angle)) in enumerate(
            zip(degrees, array.polar.tolist(), strict=True)
        ):
            graph.add_node((name, unit), level=name, x=x, y=y, eccentricity=r, polar_angle=angle)
    for (lower, kind, upper), connection in pyramid.relations().items():
        knn = pyramid.graph(connection)
        src, dst = knn.edge_index.tolist()
        edges: list[dict[str, object]] = [
            {"kind": kind, "distance": distance} for distance in knn.distance.tolist()
        ]
        if connection.kernel_size is not None:
            cells = knn.kernel_map(connection.kernel_size).cell.tolist()
            for edge, cell in zip(edges, cells, strict=True):
                edge["cell"] = cell
        graph.add_edges_from(
            ((lower, s), (upper, d), edge) for s, d, edge in zip(src, dst, edges, strict=True)
        )
    return graph


def pyramid_dot(pyramid: GraphPyramid) -> str:
    """Return the levels and steps in Graphviz's language: a box a level, an arrow a step.

    Raises:
        TypeError: If ``pyramid`` is no pyramid.
    """
    instance("pyramid", pyramid, GraphPyramid)
    lines = ["digraph pyramid {", "  rankdir=BT;", "  node [shape=box, fontname=sans];"]
    lines += ["  edge [fontname=sans];"]
    for index, row in enumerate(pyramid.rows()):
        lines.append(f'  {row["level"]} [label="{row["level"]}\\n{row["nodes"]:,} nodes"];')
        if index:
            lines.append(
                f'  {pyramid.names[index - 1]} -> {row["level"]} [label="{_step_text(row)}"];'
            )
    return "\n".join([*lines, "}", ""])


def _draw_edges(
    ax: Axes,
    pyramid: GraphPyramid,
    index: int,
    places: list[np.ndarray],
    fields: list[np.ndarray],
) -> None:
    src, dst = pyramid.graphs[index].edge_index.cpu().numpy()
    src, dst = (ends[np.isin(dst, fields[index + 1])] for ends in (src, dst))
    chosen = np.unique(np.linspace(0, len(src) - 1, min(len(src), MOST_EDGES)).astype(int))
    lines = np.stack((places[index][src[chosen]], places[index + 1][dst[chosen]]), axis=1)
    ink = colormaps[style.COLORMAP](0.85 * index / max(len(fields) - 1, 1))
    joins = LineCollection(list(lines), colors=[ink], linewidths=0.5, alpha=0.35)
    joins.set_zorder(2 * index + 1)
    ax.add_collection(joins)


def _row_text(row: dict[str, int | str | None], index: int) -> str:
    text = f"{index}. {row['level']}: {row['nodes']:,} node{'s' if row['nodes'] != 1 else ''}"
    return text if not index else f"{text}\n{_step_text(row)}"


def _step_text(row: dict[str, int | str | None]) -> str:
    cells = "" if row["cells"] is None else f", {row['cells']} cells"
    return f"k = {row['k']}{cells}, {row['edges']:,} edges"
