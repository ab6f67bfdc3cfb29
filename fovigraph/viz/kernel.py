"""The kernel: how neighbours fall into its cells, and its filters, there and in the field."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.path import Path
from torch import Tensor

from fovigraph._checks import instance, positive_int
from fovigraph.geometry import SensorArray
from fovigraph.graph import KNNGraph
from fovigraph.sensing.fixation import as_floats
from fovigraph.viz import style
from fovigraph.viz.arguments import finite_array, index_below, indices_below
from fovigraph.viz.array import CYCLIC_COLORMAP
from fovigraph.viz.cells import node_cells
from fovigraph.viz.field import Field, drawn_nodes, nearest_drawn

SIGNED_COLORMAP = "RdBu_r"
"""Blue below 0, white at 0, red above: distinct with any kind of colour vision."""


MOST_NODES = 10_000
"""The most nodes that are chosen."""


def example_nodes(array: SensorArray, count: int = 4) -> list[int]:
    """Choose nodes from the point of gaze to near the edge, each in a direction of its own.

    Raises:
        TypeError, ValueError: If ``array`` is no array, or ``count`` not from 1 to 10 000.
    """
    instance("array", array, SensorArray)
    positive_int("count", count, MOST_NODES)
    edge = 0.8 * array.fov / 2
    # Evenly on the cortex, where distance goes as ln(r + a).
    span = math.log1p(edge / array.cmf_a)
    radii = [array.cmf_a * math.expm1(span * step / max(count - 1, 1)) for step in range(count)]
    angles = [math.radians(20 + 115 * step) for step in range(count)]
    aims = [[r * math.cos(t), r * math.sin(t)] for r, t in zip(radii, angles, strict=True)]
    places = torch.tensor(aims, dtype=torch.float64) / (array.fov / 2)
    return [nearest_drawn(array, place) for place in places]


def plot_kernel_map(
    graph: KNNGraph, kernel_size: int, *, nodes: Sequence[int] | None = None
) -> Figure:
    """Draw how the neighbours of some nodes fall into the cells of the reference kernel.

    Args:
        graph: The graph of the convolution.
        kernel_size: Side of the reference kernel.
        nodes: Destination nodes, up to six; ``None``: four from the point of gaze to near the edge.

    Returns:
        The figure: for every node, its neighbours in the visual field and in the kernel's frame,
        each joined to its cell there; and how often each cell is used by all nodes.

    Raises:
        ValueError, TypeError: If a node does not exist, or an argument is of another type.
    """
    instance("graph", graph, KNNGraph)
    kernel_size = positive_int("kernel_size", kernel_size)
    chosen = example_nodes(graph.dst) if nodes is None else _nodes(graph, nodes)
    figure = style.new_figure(height=10.4, width=max(style.WIDTH, 2.7 * len(chosen)))
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.6, 1)).flat
    panels = top.subplots(2, len(chosen), squeeze=False)
    for (field, frame), node in zip(panels.T, chosen, strict=True):
        _draw_neighbours(field, frame, graph, node, kernel_size)
    for row, label in zip(panels, ("degrees", "along v"), strict=True):
        row[0].set_ylabel(label)
    use, fill = bottom.subplots(1, 2, width_ratios=(1, 1.3))
    _draw_use(use, graph, kernel_size)
    _draw_fill(fill, graph, kernel_size)
    figure.suptitle("What becomes of a kernel: neighbours, and the weights they get", **style.TITLE)
    figure.supxlabel(
        "Top: the neighbours of a node (×) in the visual field. Middle: the same, in the same "
        "colours, in the kernel's frame;\na line joins each to the centre of the cell whose weight "
        "it gets. Neighbours beyond the field's edge have no edges, and are left out.",
        fontsize=9,
    )
    return figure


def cell_counts(graph: KNNGraph, kernel_size: int) -> Tensor:
    """Return how many edges of a graph fall into each cell of the kernel, ``[kernel_size²]``.

    Raises:
        TypeError, ValueError: If ``graph`` is no graph, or ``kernel_size`` no size.
    """
    instance("graph", graph, KNNGraph)
    cells = graph.kernel_map(kernel_size).cell.cpu()
    return torch.bincount(cells, minlength=kernel_size**2)


def kernel_picture(values: Tensor | np.ndarray) -> np.ndarray:
    """Lay values of the kernel's cells ``[s², …]`` out as a picture ``[s, s, …]``, v upwards.

    Raises:
        TypeError, ValueError: If ``values`` are no numbers, or not so many.
    """
    cells = as_floats("values", values).detach().cpu().float().numpy()
    count = len(cells) if cells.ndim else 0
    side = math.isqrt(count)
    if side**2 != count or not count:
        raise ValueError(f"values must be those of a square kernel's cells, got {count}")
    return np.flip(cells.reshape(side, side, *cells.shape[1:]).swapaxes(0, 1), axis=0)


def plot_filters(weight: Tensor | np.ndarray, *, count: int = 48) -> Figure:
    """Draw filters in the kernel's reference frame.

    Args:
        weight: ``[cells, C_in, C_out]``, as :class:`~fovigraph.nn.KNNConv` holds it.
        count: How many output channels to draw, at the most.

    Returns:
        The figure: in colours for three input channels, grey for 0; else the mean over them, from
        blue (negative) to red. Each filter is scaled by its own largest weight.

    Raises:
        ValueError, TypeError: If the weight has another shape, or an argument is of another type.
    """
    picture = _filters(weight)[..., : positive_int("count", count)]
    number = picture.shape[-1]
    columns = min(number, 12)
    rows = math.ceil(number / columns)
    side = style.WIDTH / columns
    figure = style.new_figure(height=min(side, 1.6) * rows * 1.12 + 1.2)
    for index, ax in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        ax.set_axis_off()
        if index < number:
            ax.imshow(_filter_colors(picture[..., index]), interpolation="nearest")
            ax.set_title(str(index), fontsize=7, pad=2)
    side = len(picture)
    figure.suptitle(f"Filters in the kernel's frame ({side} × {side} cells)", **style.TITLE)
    figure.supxlabel(_filter_text(picture.shape[2]), fontsize=9)
    return figure


def plot_filter_in_field(
    graph: KNNGraph,
    weight: Tensor | np.ndarray,
    channel: int = 0,
    *,
    nodes: Sequence[int] | None = None,
) -> Figure:
    """Draw a filter in the kernel's frame, and as it lies at several places of the visual field.

    Args:
        graph: The graph of the convolution.
        weight: ``[cells, C_in, C_out]``.
        channel: The output channel.
        nodes: Destination nodes, up to six; ``None``: five from the point of gaze to near the edge.

    Returns:
        The figure: the filter; where its copies lie in the visual field; and each, enlarged. Every
        neighbour fills its cell with its weight.

    Raises:
        ValueError, TypeError: If the weight has another shape, a channel or node does not exist, or
            an argument is of another type.
    """
    instance("graph", graph, KNNGraph)
    picture = _filters(weight)
    channel = index_below("channel", channel, picture.shape[-1])
    chosen = example_nodes(graph.dst, 5) if nodes is None else _nodes(graph, nodes)
    colors = _filter_colors(picture[..., channel])
    cells = node_cells(graph.src)
    figure = style.new_figure(height=9.2)
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.8, 1)).flat
    kernel, field = top.subplots(1, 2, width_ratios=(1, 1.5))
    kernel.imshow(colors, extent=(-1, 1, -1, 1), interpolation="nearest")
    kernel.set(xlabel="along u", ylabel="along v", title=f"Filter {channel}, in the kernel's frame")
    kernel.set(xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    whole = Field(graph.src)
    edge, outline = whole.limit, whole.outline()
    panels = bottom.subplots(1, len(chosen), squeeze=False)[0]
    for letter, node, ax in zip("ABCDEF", chosen, panels, strict=False):
        center, patch, limit = _patch(graph, node, cells, colors)
        for panel in (field, ax):
            panel.add_collection(patch()).set_clip_path(Path(outline), panel.transData)
        place = center + (limit + 0.03 * edge) * _aside(center)
        field.annotate(letter, place, fontweight="bold", ha="center", va="center")
        ax.set(xlim=(center[0] - limit, center[0] + limit), aspect="equal", facecolor="#FAFAFA")
        ax.set(ylim=(center[1] - limit, center[1] + limit), xlabel="degrees")
        ax.set_title(f"{letter}: at {float(graph.dst.eccentricity[node]):.1f}°", fontsize=10)
        ax.tick_params(labelsize=7)
    field.plot(*outline.T, color="#767676", linewidth=0.8)
    style.visual_axes(field, 1.03 * edge)
    field.set_title("The same weights, as they lie in the visual field")
    figure.suptitle("One filter, laid on the retina", **style.TITLE)
    figure.supxlabel(_filter_text(picture.shape[2]), fontsize=9)
    return figure


def _nodes(graph: KNNGraph, nodes: Sequence[int]) -> list[int]:
    chosen = indices_below("nodes", nodes, graph.num_dst)
    if not 1 <= len(chosen) <= 6:
        raise ValueError(f"nodes must be one to six, got {len(chosen)}")
    return chosen


def _edges(graph: KNNGraph, node: int) -> slice:
    return slice(int(graph.ptr[node]), int(graph.ptr[node + 1]))


def _degrees(array: SensorArray) -> np.ndarray:
    return array.degrees.numpy()


def _draw_neighbours(field: Axes, frame: Axes, graph: KNNGraph, node: int, side: int) -> None:
    edges = _edges(graph, node)
    offset = graph.offset[edges].cpu().double().numpy()
    cells = graph.kernel_map(side).cell[edges].cpu().numpy()
    places = _degrees(graph.src)[graph.edge_index[0, edges].cpu().numpy()]
    here = _degrees(graph.dst)[node]
    look: dict[str, Any] = {"c": np.arctan2(*offset.T[::-1]), "cmap": CYCLIC_COLORMAP}
    look |= {"vmin": -math.pi, "vmax": math.pi, "s": min(30.0, 2200 / len(offset))}
    look |= {"edgecolors": "#4d4d4d", "linewidths": 0.4}
    field.scatter(*places.T, **look)
    field.plot(*here, "x", color="black", markersize=7)
    limit = 1.15 * max(np.abs(places - here).max(), 1e-6)
    field.set(xlim=(here[0] - limit, here[0] + limit), ylim=(here[1] - limit, here[1] + limit))
    field.set(xlabel="degrees", aspect="equal")
    eccentricity = float(graph.dst.eccentricity[node])
    field.set_title(
        f"node {node}, {eccentricity:.1f}° from gaze:\n{len(offset)} neighbours", size=9
    )

    grid = np.linspace(-1, 1, side)
    centers = np.stack((grid[cells // side], grid[cells % side]), axis=-1)
    half = 1 / max(side - 1, 1)
    lines = np.linspace(-1 - half, 1 + half, side + 1)
    for at in lines:
        frame.plot([at, at], lines[[0, -1]], color="#CCCCCC", linewidth=0.4, zorder=0)
        frame.plot(lines[[0, -1]], [at, at], color="#CCCCCC", linewidth=0.4, zorder=0)
    joins = LineCollection(list(np.stack((offset, centers), axis=1)), colors="#4d4d4d")
    joins.set_linewidth(1.0)
    frame.add_collection(joins)
    frame.scatter(*offset.T, **look)
    used = len(np.unique(cells))
    frame.set(xlim=lines[[0, -1]], ylim=lines[[0, -1]], aspect="equal", xlabel="along u")
    frame.set_title(f"{used} of {side**2} cells used", size=9)
    for ax in (field, frame):
        ax.tick_params(labelsize=7)


def _draw_use(ax: Axes, graph: KNNGraph, side: int) -> None:
    count = len(drawn_nodes(graph.dst))
    share = cell_counts(graph, side).double() / count
    image = ax.imshow(kernel_picture(share), cmap=style.COLORMAP, extent=(-1, 1, -1, 1), vmin=0)
    ax.set(xlabel="along u", ylabel="along v")
    ax.set_title(f"How often each cell is used, by all {count:,} nodes", size=10)
    ax.figure.colorbar(image, ax=ax, label="neighbours a node", shrink=0.9)


def _draw_fill(ax: Axes, graph: KNNGraph, side: int) -> None:
    kmap = graph.kernel_map(side)
    pairs = torch.unique(kmap.dst.cpu() * side**2 + kmap.cell.cpu())
    used = torch.bincount(pairs // side**2, minlength=graph.num_dst)
    neighbours = (graph.ptr[1:] - graph.ptr[:-1]).cpu()
    nodes = drawn_nodes(graph.dst)
    used, neighbours = used[nodes], neighbours[nodes]
    eccentricity = graph.dst.eccentricity[nodes]
    dots: dict[str, Any] = {"markersize": 3, "alpha": 0.6}
    blue, red = style.COLORS[6], style.COLORS[5]
    ax.plot(eccentricity, neighbours, "s", color=red, label="neighbours in the field", **dots)
    ax.plot(eccentricity, used, ".", color=blue, label="different cells they fall into", **dots)
    ax.set(xlabel="eccentricity of the node (degrees)", ylabel="number", ylim=(0, None))
    ax.set_title("Neighbours, and cells, of every node", size=10)
    ax.legend(loc="lower left", fontsize=8)


def _filters(weight: Tensor | np.ndarray) -> np.ndarray:
    """Filters as pictures ``[s, s, 3 or 1, C_out]``."""
    given = torch.from_numpy(finite_array("weight", weight)).float()
    if given.ndim != 3 or math.isqrt(given.shape[0]) ** 2 != given.shape[0] or 0 in given.shape:
        raise ValueError(f"weight must have shape [side², C_in, C_out], got {list(given.shape)}")
    return kernel_picture(given if given.shape[1] == 3 else given.mean(dim=1, keepdim=True))


def _filter_colors(picture: np.ndarray) -> np.ndarray:
    """Colours ``[s, s, 3]`` of one filter ``[s, s, 3 or 1]``."""
    most = max(float(np.abs(picture).max()), 1e-12)
    if picture.shape[-1] == 3:
        return 0.5 + picture / (2 * most)
    scale = ScalarMappable(Normalize(-most, most), colormaps[SIGNED_COLORMAP])
    return np.asarray(scale.to_rgba(picture[..., 0]))[..., :3]


def _filter_text(channels: int) -> str:
    if channels == 3:
        return (
            "Red, green and blue are the weights of the three input channels, scaled to the "
            "filter's largest; mid-grey is 0."
        )
    return "Mean weight over the input channels, scaled to the filter's largest; white is 0."


def _aside(center: np.ndarray) -> np.ndarray:
    """A direction, of length 1, across the line from the point of gaze to a place."""
    distance = float(np.hypot(*center))
    across = np.array([center[1], -center[0]])
    return across / distance if distance > 1e-6 else np.array([0.0, -1.0])


def _patch(
    graph: KNNGraph, node: int, cells: list[np.ndarray], colors: np.ndarray
) -> tuple[np.ndarray, Callable[[], PolyCollection], float]:
    """Where a node is, a maker of its neighbours' cells in their weights, and how far they go."""
    edges, side = _edges(graph, node), len(colors)
    cell = graph.kernel_map(side).cell[edges].cpu().numpy()
    sources = graph.edge_index[0, edges].cpu().numpy()
    shades = colors[side - 1 - cell % side, cell // side]
    center = _degrees(graph.dst)[node]
    reach = 1.15 * max(np.abs(_degrees(graph.src)[sources] - center).max(), 1e-6)
    outline = [cells[source] for source in sources]

    def patch() -> PolyCollection:
        return PolyCollection(outline, facecolors=shades, edgecolors="face", linewidths=0.3)

    return center, patch, reach
