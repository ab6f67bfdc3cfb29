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
from fovigraph.geometry.lattice import UniformSquare, WarpedCartesian
from fovigraph.geometry.layout import PADDING_REACH
from fovigraph.geometry.magnification import CORTICAL_SCALE
from fovigraph.geometry.manifold import LegacyManifold
from fovigraph.geometry.rings import LogPolarImage
from fovigraph.graph import KNNGraph
from fovigraph.interop.config import LAYOUTS
from fovigraph.interop.family import family_of
from fovigraph.models import FoviNet
from fovigraph.models.wrapped import unwrapped
from fovigraph.sensing.places import (
    cut_to_square,
    lattice,
    places,
    ring_radii,
    rings_of,
    turned,
    warped,
)

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
        ValueError: If upstream has no such layout, or draws it at random.
        ImportError: If it has the metric ``"geodesic"`` and pygeodesic is not installed.
        TypeError: If ``net`` is no network.

    Example:
        .. code-block:: python

            net = fg.from_upstream("fovi-alexnet_a-0.5_res-64_rfmult-2_in1k")
            use_neighbours(net, recomputed_neighbours(net))
    """
    instance("net", net, FoviNet)
    array = net.retina.array
    if (array.layout, array.extent) == ("isotropic_fixn", "circular"):
        raise ValueError(
            "net must have another retina.layout than 'isotropic_fixn' with retina.extent="
            "'circular' for its neighbourhoods to be recomputed: upstream draws those at random"
        )
    if array.layout not in LAYOUTS.values():
        raise ValueError(
            f"net must have a retina.layout of {', '.join(map(repr, LAYOUTS.values()))} for its "
            f"neighbourhoods to be recomputed, got {array.layout!r}"
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
        self.period = graph.src._layout.period if graph.metric == "cortical" else None
        nodes, dst = places(graph.src), places(graph.dst)
        self.visual, self.dst_visual = torch.cat((nodes, _padding(graph.src, nodes))), dst
        if self.metric == "visual":
            self.points, self.dst = self.visual, dst
        else:
            self.points = torch.cat(_both_cortical(graph.src, nodes, self.visual[len(nodes) :]))
            self.dst = _both_cortical(graph.dst, dst, dst[:0])[0]
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
            self._apart(some).topk(k, dim=0, largest=False).indices
            for some in self.dst.split(at_a_time)
        ]
        return torch.cat(parts, dim=1)

    def _apart(self, dst: Tensor) -> Tensor:
        """Return the distances of all points to destinations, ``[points, N]``."""
        if self.period is None:
            return torch.cdist(self.points, dst)
        along, round_about = (
            torch.cdist(self.points[:, axis, None], dst[:, axis, None], p=1) for axis in (0, 1)
        )
        round_about = torch.minimum(round_about, self.period - round_about)
        return (along**2 + round_about**2) ** 0.5

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
    layout = array._layout
    if array.resolution == 1:
        return nodes[:0]
    if isinstance(layout, WarpedCartesian):
        return warped(layout, _warped_padding(array))
    if isinstance(layout, LogPolarImage):
        depth, turn = _logpolar_padding(array).unbind(1)
        edge = ring_radii(layout)[-1] * (array.fov / 2)
        reach = torch.log((edge + array.cmf_a) / array.cmf_a)
        radius = array.cmf_a * torch.expm1(depth * reach) / (array.fov / 2)
        return turned(radius, turn * (2 * math.pi))
    if isinstance(layout, UniformSquare):
        return _rings_of_padding(array, torch.sqrt(nodes[:, 0] ** 2 + nodes[:, 1] ** 2))
    if array.extent == "circular":
        return _rings_of_padding(array, ring_radii(rings_of(array)))
    square = cut_to_square(array)
    return torch.cat((square.outside, _rings_of_padding(array, square.radii)))


def _rings_of_padding(array: SensorArray, radii: Tensor) -> Tensor:
    """Return padding in rings around nodes of these radii."""
    radii = radii.unique()
    gap = radii[-1] - radii[-2] if len(radii) > 1 else radii[-1] / max(array.resolution - 1, 1)
    start = radii[-1] + gap
    radii = torch.arange(start, start + PADDING_REACH, gap)  # type: ignore[call-overload]  # 0-d
    angles = torch.arange(0, 2 * math.pi, gap)  # type: ignore[call-overload]
    return turned(*torch.cartesian_prod(radii, angles).unbind(1))


def _both_cortical(array: SensorArray, nodes: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
    """Lay nodes and padding on the cortex: apart, each by all its points at once."""
    layout = array._layout
    if isinstance(layout, (LogPolarImage, WarpedCartesian)) and array.resolution == 1:
        return nodes, padding
    if isinstance(layout, WarpedCartesian):
        return lattice(array), _warped_padding(array) if len(padding) else padding
    if not isinstance(layout, LogPolarImage):
        return _cortical(nodes, array), _cortical(padding, array)
    a = torch.tensor(array.cmf_a)
    radius = (nodes[:, 0] ** 2 + nodes[:, 1] ** 2) ** 0.5 * array.fov / 2
    depth = torch.log((radius + a) / a) / torch.log((radius.max() + a) / a)
    angle = torch.arange(array.resolution).float() * (2 * math.pi / array.resolution)
    turn = angle.repeat_interleave(array.resolution) / (2 * math.pi)
    there = _logpolar_padding(array) if len(padding) else padding
    return torch.stack((depth, turn), dim=1), there


def _warped_padding(array: SensorArray) -> Tensor:
    """Return the cells of the padding in the lattice's own plane."""
    layers = max(1, math.ceil(PADDING_REACH / (2 * array._layout.max_val / array.resolution)))
    side = array.resolution + 2 * layers
    around = torch.ones(side, side, dtype=torch.bool)
    around[layers:-layers, layers:-layers] = False
    return lattice(array, layers)[around.flatten()]


def _logpolar_padding(array: SensorArray) -> Tensor:
    """Return the padding on the cortex of a log-polar image."""
    step = 1.0 / (array.resolution - 1)
    layers = max(1, math.ceil(PADDING_REACH / step))
    inner = -step * torch.arange(layers, 0, -1).float()
    outer = 1.0 + step * torch.arange(1, layers + 1).float()
    turns = torch.arange(array.resolution).float() / array.resolution
    return torch.cartesian_prod(torch.cat((inner, outer)), turns)


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
