"""The cell of every node: the part of the visual field, or of the cortex, that is nearest to it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.path import Path
from scipy.spatial import KDTree, Voronoi
from torch import Tensor

from fovigraph._checks import instance, one_of
from fovigraph.geometry import SensorArray
from fovigraph.viz import style
from fovigraph.viz.arguments import finite_array
from fovigraph.viz.field import Field, drawn_nodes
from fovigraph.viz.flatmap import (
    MAPS,
    flat_circle,
    flat_map,
    flat_outlines,
    gaze_places,
    map_labels,
)

SPACES = (*MAPS, "visual")
"""Where nodes can be drawn: on a map of the cortex (:func:`flat_map`), or in the visual field."""


class Frame(NamedTuple):
    """Where an array is drawn.

    Attributes:
        nodes: Which of its nodes are drawn, ``[M]``.
        points: Where they are, ``[M, 2]``.
        outlines: The curves around them.
        labels: What the axes are.
    """

    nodes: np.ndarray
    points: np.ndarray
    outlines: list[np.ndarray]
    labels: tuple[str, str]

    @property
    def box(self) -> np.ndarray:
        """The least and the greatest x and y of the outlines, ``[2, 2]``."""
        corners = np.concatenate(self.outlines)
        return np.stack((corners.min(axis=0), corners.max(axis=0)))

    @property
    def aspect(self) -> float:
        """Height over width."""
        width, height = np.diff(self.box, axis=0)[0]
        return float(height / width)

    def set_up(self, ax: Axes) -> None:
        """Set axes up, with a margin around the outlines."""
        low, high = self.box
        margin = 0.015 * (high - low)  # which shows all of the outline
        style.map_axes(ax, low - margin, high + margin, self.labels)


def frame(array: SensorArray, space: str, field: Field | None = None) -> Frame:
    """Place an array's nodes in the visual field (degrees) or on a map of the cortex.

    The outlines are those of a field; if ``None``, of the array's own.
    """
    field, nodes = Field(array) if field is None else field, drawn_nodes(array)
    if one_of("space", space, SPACES) == "visual":
        return Frame(nodes, array.degrees.numpy()[nodes], [field.outline()], style.VISUAL_LABELS)
    outlines = [outline.numpy() for outline in flat_outlines(array, field, space)]
    points = flat_map(array, kind=space).numpy()[nodes]
    return Frame(nodes, points, outlines, map_labels(array, space))


def node_cells(array: SensorArray, space: str = "visual") -> list[np.ndarray]:
    """Return the Voronoi cell of every node, out to any distance at the edge of the field.

    Args:
        array: The nodes.
        space: ``"visual"``: cells of the visual field, degrees; or the map of the cortex that they
            are cells of (:func:`flat_map`): ``"cortical"``, ``"v1like"``, ``"schwartz"``,
            ``"warp"``.

    Returns:
        N convex polygons, each ``[corners, 2]``. Nodes at the same place have the same, and masked
        ones none, ``[0, 2]``.

    Raises:
        ValueError, TypeError: If there is no such space, or ``array`` is no array.
    """
    instance("array", array, SensorArray)
    one_of("space", space, SPACES)
    placed = frame(array, space)
    cells = [np.zeros((0, 2))] * len(array)
    for node, cell in zip(placed.nodes, _voronoi(placed), strict=True):
        cells[node] = cell
    return cells


def draw_cells(
    ax: Axes,
    array: SensorArray,
    colors: np.ndarray,
    space: str,
    *,
    field: Field | None = None,
    **options: Any,
) -> PolyCollection:
    """Draw every node's cell in its colour ``[N, 3 or 4]`` within a field, and set the axes up.

    Further options are those of a ``PolyCollection``.
    """
    placed = frame(array, space, field)
    # A thin edge hides the seams between the cells.
    options = {"edgecolors": "face", "linewidths": 0.4, **options}
    cells = PolyCollection(_voronoi(placed), facecolors=colors[placed.nodes], **options)
    ax.add_collection(cells, autolim=False)
    outlines = Path.make_compound_path(*(Path(o, closed=True) for o in placed.outlines))
    cells.set_clip_path(outlines, ax.transData)
    placed.set_up(ax)
    return cells


def draw_eccentricities(ax: Axes, array: SensorArray, space: str) -> None:
    """Draw and label circles of equal eccentricity, the same ones in all spaces; mark the gaze."""
    field = Field(array)
    for degrees in eccentricity_ticks(array):
        if space == "visual":
            curves, (x, y) = [circle(degrees)], (0.0, degrees)
        else:
            curves = [curve.numpy() for curve in flat_circle(array, degrees, space)]
            x, y = flat_map(array, torch.tensor([[degrees, 0.0]]), kind=space)[0].tolist()
        for curve in curves:
            ax.plot(*curve.T, color="white", linewidth=0.8, path_effects=style.halo(1.6))
        if space == "visual" and degrees < field.limit / 8:
            continue  # no room for a label
        ax.annotate(
            f"{degrees:g}°",
            (x, y),
            color="white",
            fontsize=8,
            ha="center",
            va="center",
            path_effects=style.halo(2.5),
        )
    mark_gaze(ax, array, space)


def mark_gaze(ax: Axes, array: SensorArray, space: str) -> None:
    """Mark the point of gaze with a white cross, wherever it is."""
    places = np.zeros((1, 2)) if space == "visual" else gaze_places(array, space).numpy()
    look: dict[str, Any] = {"color": "white", "linestyle": "", "path_effects": style.halo(3)}
    ax.plot(*places.T, marker="+", markersize=11, **look)


def eccentricity_ticks(array: SensorArray) -> list[float]:
    """Return round eccentricities (degrees), each about twice the last, that lie well apart."""
    ticks = [m * 10.0**e for e in range(-3, 3) for m in (1, 2, 5)]
    return [tick for tick in ticks if array.cmf_a <= tick < 0.9 * array.fov / 2][-5:]


def pixels_degrees(
    height: int, width: int, extent: tuple[float, float, float, float]
) -> np.ndarray:
    """Return the visual coordinates of a picture's pixel centres, ``[height · width, 2]``.

    ``extent`` is (left, right, bottom, top) in degrees.
    """
    left, right, bottom, top = extent
    x = left + (right - left) * (np.arange(width) + 0.5) / width
    y = top + (bottom - top) * (np.arange(height) + 0.5) / height
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def nearest_node(array: SensorArray, points: np.ndarray) -> np.ndarray:
    """Return the node whose cell each visual point ``[M, 2]`` (degrees) lies in; −1 outside."""
    nodes = drawn_nodes(array)
    _, nearest = KDTree(array.degrees.numpy()[nodes]).query(points)
    return np.where(Field(array).contains(points), nodes[nearest], -1)


def circle(radius: float) -> np.ndarray:
    """Return a closed polygon of 361 points around (0, 0), ``[361, 2]``."""
    angle = np.linspace(0, 2 * np.pi, 361)
    return radius * np.stack((np.cos(angle), np.sin(angle)), axis=-1)


def _voronoi(placed: Frame) -> list[np.ndarray]:
    places, node_place = np.unique(placed.points.round(9), axis=0, return_inverse=True)
    # Points far outside bound the outermost cells.
    low, high = placed.box
    far = (low + high) / 2 + circle(6 * float((high - low).max()))[:-1:10]
    diagram = Voronoi(np.concatenate((places, far)))
    polygons = [
        diagram.vertices[diagram.regions[region]] for region in diagram.point_region[: len(places)]
    ]
    return [polygons[place] for place in node_place.reshape(-1)]


def as_values(array: SensorArray, values: Tensor | np.ndarray, name: str = "values") -> np.ndarray:
    """Check one value or one colour a node, and return ``[N]`` or ``[N, 3]``."""
    instance("array", array, SensorArray)
    given = finite_array(name, values)
    if given.shape not in ((len(array),), (len(array), 3)):
        raise ValueError(
            f"{name} must have shape [{len(array)}] or, for colours, [{len(array)}, 3] like the "
            f"array's nodes, got {list(given.shape)}"
        )
    return given
