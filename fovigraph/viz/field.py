"""The part of the visual field that an array covers, and the nodes of it that are drawn."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from fovigraph.geometry import SensorArray, Warp


def drawn_nodes(array: SensorArray) -> np.ndarray:
    """Return the indices of the nodes that take part, ``[M]``; masked ones are not drawn."""
    mask = array.mask
    return np.arange(len(array)) if mask is None else mask.nonzero().flatten().numpy()


def nearest_drawn(array: SensorArray, aim: Tensor) -> int:
    """Return the node that takes part and is nearest to a place, in radii of the field, ``[2]``."""
    nodes = drawn_nodes(array)
    return int(nodes[int((array.cartesian[nodes] - aim).norm(dim=1).argmin())])


def check_takes_part(array: SensorArray, unit: int) -> None:
    """Say that a unit must be one that takes part, not a masked one."""
    mask = array.mask
    if mask is not None and 0 <= unit < len(array) and not mask[unit]:
        raise ValueError(
            f"unit must lie within the extent of the field, got {unit}, which is masked"
        )


def to_nearest(points: np.ndarray) -> np.ndarray:
    """Return the distance of points ``[N, 2]`` to the nearest at another place, ``[N]``; else 0."""
    places = np.unique(points.round(9), axis=0)
    if len(places) < 2:
        return np.zeros(len(points))
    distance, _ = KDTree(places).query(points, k=2)
    return np.asarray(distance[:, 1])


class Field:
    """The field of an array, as it is drawn: a circle, a square, or the square that is warped.

    Args:
        array: The nodes.
        edge: How far it reaches, degrees, to the right; ``None``: as far as the field of view, and
            half a cell beyond the outermost nodes.

    Attributes:
        edge: The same.
    """

    def __init__(self, array: SensorArray, edge: float | None = None):
        self._shape = array._layout.shape
        self._radius, self._half_side = array.fov / 2, array._layout.max_val
        self._warp = None
        if self._shape == "wang":
            self._warp = Warp(array.fov, array.cmf_a, "wang", 2.0, self._half_side)
        self.edge = self._drawn_edge(array) if edge is None else edge

    def _drawn_edge(self, array: SensorArray) -> float:
        nominal = self._half_side * self._radius
        points = array.degrees.numpy()[drawn_nodes(array)]
        if len(points) < 2 or self._shape == "wang":
            return nominal
        order = np.inf if self._shape == "square" else 2
        distance = np.linalg.norm(points, ord=order, axis=1)
        outermost = int(distance.argmax())
        beyond = float(distance[outermost] + to_nearest(points)[outermost] / 2)
        return max(nominal, beyond)

    def reach(self, angle: Tensor) -> Tensor:
        """Return how far it reaches in directions (radians), degrees, in the shape of ``angle``."""
        if self._shape == "circular":
            return torch.full_like(angle, self.edge)
        direction = torch.stack((angle.cos(), angle.sin()), dim=-1)
        square = direction / direction.abs().amax(dim=-1, keepdim=True)
        if self._warp is None:
            return self.edge * square.norm(dim=-1)
        # The warp keeps directions.
        return self._radius * self._warp.to_visual(square * self._half_side).norm(dim=-1)

    def border(self, start: float = 0.0, stop: float = 2 * math.pi) -> Tensor:
        """Return its border between two angles as polar coordinates, ``[361, 2]``."""
        angle = torch.linspace(start, stop, 361, dtype=torch.float64)
        return torch.stack((self.reach(angle), angle), dim=-1)

    def outline(self) -> np.ndarray:
        """Return its border as a closed polygon, degrees, ``[361, 2]``."""
        radius, angle = self.border().numpy().T
        return radius[:, None] * np.stack((np.cos(angle), np.sin(angle)), axis=-1)

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Return which points ``[M, 2]`` (degrees) lie in it, ``[M]``."""
        angle = torch.from_numpy(np.arctan2(points[:, 1], points[:, 0]))
        return np.asarray(np.hypot(*points.T) <= self.reach(angle).numpy() * (1 + 1e-9))

    @property
    def limit(self) -> float:
        """How far it reaches to the sides and up, degrees."""
        return float(np.abs(self.outline()).max())
