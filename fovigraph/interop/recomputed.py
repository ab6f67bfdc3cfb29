"""Upstream's neighbourhoods, found again by its own arithmetic in single precision.

Where neighbours are tied, rounding decides which of them upstream takes. The same operations on the
same machine round alike, so that no lists need to be exported: places, distances, their order and
the kernel's cells are computed here as upstream computes them, by the same functions of torch and
NumPy. Another processor, or another release of these, may round otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from scipy.integrate import cumulative_trapezoid
from torch import Tensor

from fovigraph._checks import instance
from fovigraph.geometry import SensorArray
from fovigraph.geometry.fixed import isolated
from fovigraph.geometry.layout import PADDING_REACH
from fovigraph.geometry.magnification import CORTICAL_SCALE
from fovigraph.geometry.manifold import LegacyManifold
from fovigraph.graph import KNNGraph
from fovigraph.interop.family import family_of
from fovigraph.models import FoviNet
from fovigraph.models.wrapped import unwrapped
from fovigraph.sensing.retina import places

RECOMPUTED = "recomputed"
"""What stands for these lists where lists are given."""

PLACES = "retina.cartesian"
"""The name, among lists, of the places of the retina's nodes."""

_PAIRS = 500_000_000
"""Distances that upstream computes at a time; how many also decides how they are rounded."""

_CELL_PAIRS = 1 << 24
"""Distances of neighbours to cells that are computed at a time."""

_CANDIDATES = 4
"""Candidates, nearest in a straight line, that surface distances are taken to, a neighbour."""


@isolated
def recomputed_neighbours(net: FoviNet) -> dict[str, Tensor]:
    """Return the neighbourhoods that upstream would find for a network on this machine's CPU.

    Args:
        net: The network, of a family that is exchanged with upstream.

    Returns:
        Lists as :func:`~fovigraph.interop.use_neighbours` takes them.

    Raises:
        ConfigError: If upstream has no such network.
        ValueError: If its layout is not ``"isotropic"``.
        ImportError: If it has the metric ``"geodesic"`` and pygeodesic is not installed.
        TypeError: If ``net`` is no network.

    Example:
        .. code-block:: python

            net = fg.from_upstream("fovi-alexnet_a-0.5_res-64_rfmult-2_in1k")
            use_neighbours(net, recomputed_neighbours(net))
    """
    instance("net", net, FoviNet)
    if net.config.retina.layout != "isotropic":
        raise ValueError(
            "net must have retina.layout='isotropic' for its neighbourhoods to be recomputed, got "
            f"{net.config.retina.layout!r}"
        )
    ours, backbone = net.config.backbone, unwrapped(net.backbone)
    connections = family_of(ours).connections(backbone, ours)  # type: ignore[arg-type]
    lists, found = {PLACES: places(net.retina.array)}, {}
    for layer, connection in connections.items():
        graph, size = net.pyramid.graph(connection), connection.kernel_size
        if graph not in found:  # several layers may run on one
            found[graph] = _Neighbourhoods(graph)
        lists[f"{layer}.neighbours"] = found[graph].index
        if size is not None:
            lists[f"{layer}.cells"] = found[graph].cells(size)
    return lists


class _Neighbourhoods:
    """The neighbours of every destination of a graph, ``[k, N]``, as upstream finds them.

    Args:
        graph: The canonical graph of the same arrays.
    """

    def __init__(self, graph: KNNGraph):
        self.metric = graph.metric
        nodes, dst = places(graph.src), places(graph.dst)
        self.visual, self.dst_visual = torch.cat((nodes, _padding(graph.src, nodes))), dst
        if self.metric == "visual":
            self.points, self.dst = self.visual, dst
        else:
            # Nodes and padding apart, each by all its points at once.
            parts = self.visual.split([len(nodes), len(self.visual) - len(nodes)])
            self.points = torch.cat([_cortical(part, graph.src) for part in parts])
            self.dst = _cortical(dst, graph.dst)
        if self.metric.startswith("geodesic"):
            columns = [*self._along_the_surface(graph.k, len(nodes))]
            self.index = torch.stack(columns, dim=1)
        else:
            self.index = self._in_a_straight_line(graph.k)

    def _in_a_straight_line(self, k: int) -> Tensor:
        count = len(self.dst)
        share = max(0.0001, len(self.points) * count / _PAIRS)
        at_a_time = int(min(count / share, count))
        parts = [
            torch.cdist(self.points, some).topk(k, dim=0, largest=False).indices
            for some in self.dst.split(at_a_time)
        ]
        return torch.cat(parts, dim=1)

    def _along_the_surface(self, k: int, nodes: int) -> Iterator[Tensor]:
        """Yield the neighbours of every destination.

        Upstream measures from the candidate nearest to it.
        """
        try:
            from pygeodesic.geodesic import PyGeodesicAlgorithmExact
        except ImportError as error:
            raise ImportError(
                "metric='geodesic' needs pygeodesic: pip install 'fovigraph[geodesic]'"
            ) from error
        from scipy.spatial import Delaunay

        for place in self.dst.split(1):
            straight = torch.cdist(self.points, place).squeeze(1)
            near = straight.topk(min(_CANDIDATES * k, nodes), dim=0, largest=False).indices
            faces = Delaunay(self.visual[near].numpy()).simplices
            walk, _ = PyGeodesicAlgorithmExact(self.points[near].numpy(), faces).geodesicDistances(
                [0]
            )
            apart = torch.full((len(self.points),), torch.inf)
            apart[near] = torch.tensor(walk, dtype=torch.float32)
            yield apart.topk(k, dim=0, largest=False).indices

    def cells(self, kernel_size: int) -> Tensor:
        """Return the cell of every neighbour in a reference kernel of a side, ``[k, N]``."""
        local = self.points[self.index]
        if self.metric != "visual":
            there = self.visual[self.index]
            x, y = (there[..., axis] - self.dst_visual[:, axis] for axis in (0, 1))
            angle = torch.arctan2(y, x)
            apart = [
                torch.cdist(place, around)[0]
                for place, around in zip(self.dst.split(1), local.unbind(1), strict=True)
            ]
            length = torch.stack(apart, dim=1)
            local = torch.stack((length * angle.cos(), length * angle.sin()), dim=2)
        low, high = local.amin(dim=0, keepdim=True), local.amax(dim=0, keepdim=True)
        local = 2 * (local - low) / (high - low + 1e-6) - 1
        side = torch.linspace(-1, 1, kernel_size)
        grid = torch.cartesian_prod(side, side)
        rows = max(1, _CELL_PAIRS // (local.shape[1] * len(grid)))
        return torch.cat([torch.cdist(some, grid).argmin(dim=2) for some in local.split(rows)])


def _padding(array: SensorArray, nodes: Tensor) -> Tensor:
    """Return the padding points around an array's nodes, ``[P, 2]``."""
    if array.resolution == 1:
        return nodes[:0]
    # The first node of every ring lies on the x axis.
    sizes = array.eccentricity.unique_consecutive(return_counts=True)[1]
    inner, outer = nodes[(sizes.cumsum(0) - sizes)[-2:], 0]
    gap = outer - inner
    start = outer + gap
    radii = torch.arange(start, start + PADDING_REACH, gap)  # type: ignore[call-overload]  # 0-d
    angles = torch.arange(0, 2 * math.pi, gap)  # type: ignore[call-overload]
    radius, angle = torch.cartesian_prod(radii, angles).unbind(1)
    return torch.stack((radius * angle.cos(), radius * angle.sin()), dim=1)


def _cortical(visual: Tensor, array: SensorArray) -> Tensor:
    """Lay places in the visual field, in radii of it, on the cortex, ``[N, 3]``."""
    if array.resolution == 1 and len(visual) == 1:
        return visual.new_zeros(1, 3)
    x, y = (visual.numpy() * (array.fov / 2)).T
    r, angle = np.sqrt(_squares(x) + _squares(y)), np.arctan2(y, x)
    m = CORTICAL_SCALE / (array.cmf_a + r)
    if array.field_geometry == "planar":
        rho = m * r
        t = np.sqrt(np.maximum(_squares(r / array.cmf_a + 1) - 1, 0))
        z = CORTICAL_SCALE * (np.arcsinh(t) - t / np.sqrt(1 + t * t))
    else:
        rho = m * np.sin(np.deg2rad(r)) * (180 / np.pi)
        z = np.interp(r, *_legacy_heights(array.cmf_a, array.fov))
    cortical = np.stack((rho * np.cos(angle), rho * np.sin(angle), z), axis=1)
    return torch.from_numpy(cortical.astype(np.float32))


def _squares(values: np.ndarray) -> np.ndarray:
    """Return squares as NumPy rounds those of single numbers, which may not be as an array's."""
    return np.array([value**2 for value in values], dtype=values.dtype)


@lru_cache(maxsize=4)
def _legacy_heights(cmf_a: float, fov: float) -> tuple[np.ndarray, np.ndarray]:
    """Return eccentricities (degrees) and their height on the legacy surface, double precision."""
    r = np.arange(0, 2 * fov, LegacyManifold.MESH)
    m = CORTICAL_SCALE / (cmf_a + r)
    fall = -CORTICAL_SCALE * (cmf_a + r) ** (-2)
    degrees = 180 / np.pi
    slope = fall * np.sin(np.deg2rad(r)) * degrees + m * np.cos(np.deg2rad(r))
    return r, cumulative_trapezoid((m**2 - slope**2) ** 0.5, x=r, initial=0)
