"""The cell of every node: the part of the visual field, or of the cortex, that is nearest to it."""

from __future__ import annotations

import math
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
from fovigraph.viz.flatmap import flat_circle, flat_map, flat_outlines

SPACES = ("cortical", "visual")
"""Where nodes can be drawn: on the flattened cortex, or in the visual field."""


class Frame(NamedTuple):
    """Where an array is drawn: positions of its nodes ``[N, 2]`` and the outlines around them."""

    points: np.ndarray
    outlines: list[np.ndarray]

    @property
    def reach(self) -> np.ndarray:
        """How far the outlines reach from (0, 0) in x and in y."""
        return np.abs(np.concatenate(self.outlines)).max(axis=0)


def frame(array: SensorArray, space: str, edge: float | None = None) -> Frame:
    """Place an array's nodes in the visual field (degrees) or on the flat cortex (millimetres).

    The outlines run at the eccentricity ``edge``; if ``None``, half a cell beyond the outermost
    nodes.
    """
    edge = drawn_eccentricity(array) if edge is None else edge
    if one_of("space", space, SPACES) == "visual":
        return Frame(_degrees(array), [circle(edge)])
    outlines = [outline.numpy() for outline in flat_outlines(array, edge)]
    return Frame(flat_map(array).numpy(), outlines)


def drawn_eccentricity(array: SensorArray) -> float:
    """Return the eccentricity (degrees) where the cells of the outermost nodes end."""
    if len(array) == 1:
        return array.fov / 2
    points, outermost = _degrees(array), int(array.eccentricity.argmax())
    distances, _ = KDTree(points).query(points[outermost], k=len(points))
    apart = distances[distances > 1e-9]
    return float(array.eccentricity.max() + apart[0] / 2) if len(apart) else array.fov / 2


def node_cells(array: SensorArray, space: str = "visual") -> list[np.ndarray]:
    """Return the Voronoi cell of every node, out to any distance at the edge of the field.

    Args:
        array: The nodes.
        space: ``"visual"``: cells of the visual field, degrees; ``"cortical"``: of the flattened
            cortex (:func:`flat_map`), millimetres.

    Returns:
        N convex polygons, each ``[corners, 2]``. Nodes at the same place have the same.

    Raises:
        ValueError, TypeError: If there is no such space, or ``array`` is no array.
    """
    instance("array", array, SensorArray)
    one_of("space", space, SPACES)
    return _voronoi(frame(array, space))


def draw_cells(
    ax: Axes,
    array: SensorArray,
    colors: np.ndarray,
    space: str,
    *,
    edge: float | None = None,
    **options: Any,
) -> PolyCollection:
    """Draw every node's cell in its colour ``[N, 3 or 4]`` out to ``edge``, and set the axes up.

    Further options are those of a ``PolyCollection``.
    """
    placed = frame(array, space, edge)
    # A thin edge hides the seams between the cells.
    options = {"edgecolors": "face", "linewidths": 0.4, **options}
    cells = PolyCollection(_voronoi(placed), facecolors=colors, **options)
    ax.add_collection(cells, autolim=False)
    outlines = Path.make_compound_path(*(Path(o, closed=True) for o in placed.outlines))
    cells.set_clip_path(outlines, ax.transData)
    width, height = 1.03 * placed.reach
    if space == "visual":
        style.visual_axes(ax, width)
    else:
        style.cortical_axes(ax, (width, height))
    return cells


def draw_eccentricities(ax: Axes, array: SensorArray, space: str) -> None:
    """Draw and label circles of equal eccentricity, the same ones in both spaces."""
    for degrees in eccentricity_ticks(array):
        if space == "visual":
            curves, (x, y) = [circle(degrees)], (0.0, degrees)
        else:
            curves = [curve.numpy() for curve in flat_circle(array, degrees)]
            x, y = flat_map(array, torch.tensor([[degrees, 0.0]]))[0].tolist()
        for curve in curves:
            ax.plot(*curve.T, color="white", linewidth=0.8, path_effects=style.halo(1.6))
        if space == "visual" and degrees < array.fov / 16:
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
    _, node = KDTree(_degrees(array)).query(points)
    return np.where(np.hypot(*points.T) <= drawn_eccentricity(array), node, -1)


def _degrees(array: SensorArray) -> np.ndarray:
    return array.degrees.numpy()


def circle(radius: float) -> np.ndarray:
    """Return a closed polygon of 361 points around (0, 0), ``[361, 2]``."""
    angle = np.linspace(0, 2 * math.pi, 361)
    return radius * np.stack((np.cos(angle), np.sin(angle)), axis=-1)


def _voronoi(placed: Frame) -> list[np.ndarray]:
    places, node_place = np.unique(placed.points.round(9), axis=0, return_inverse=True)
    # Points far outside bound the outermost cells.
    far = circle(6 * float(placed.reach.max()))[:-1:10]
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
