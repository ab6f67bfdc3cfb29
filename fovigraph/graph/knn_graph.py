"""The bipartite graph from one sensor array to the next."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fovigraph._checks import instance, one_of, positive_int, shown
from fovigraph._pictures import graph_html
from fovigraph._tensors import float_tensor, index_tensor, same_device
from fovigraph.geometry import SensorArray
from fovigraph.geometry.fixed import FixedTensors, isolated
from fovigraph.graph.geodesic import k_nearest_geodesic
from fovigraph.graph.kernel_map import KernelMap, cell_of, check_kernel_size, row_ptr
from fovigraph.graph.search import k_nearest, length_of
from fovigraph.graph.stored import stored

log = logging.getLogger(__name__)

METRICS = ("cortical", "visual", "geodesic", "geodesic_from_node")
INTERPOLATIONS = ("bilinear", "nearest")

GEOMETRY = ("edge_index", "distance", "offset", "relative_distance")
"""What every edge has, and a :class:`KNNGraph` is made of."""

RANGES = {
    "distance": (0, math.inf),
    "offset": (-1, 1),
    "relative_distance": (0, 1),
}
"""The smallest and the largest value of each, to a rounding of :data:`ROUNDING`."""

ROUNDING = 1e-6

LEAST = 1 << 16
"""Neighbours from which on a graph is kept on disk: fewer are found as fast as they are read."""

MAX_EDGES = 1 << 28
"""The most neighbours, of all destinations together, that are searched: 16 for each of 4096²."""


class KNNGraph(FixedTensors):
    """Edges from every node of ``src`` that is among the k nearest of a node of ``dst``.

    Made by :func:`knn_graph` or :func:`graph_from_neighbours`. Only real neighbours have edges:
    padding took part in the search and in shaping the neighbourhoods, and is gone. A module without
    parameters, buffers or a ``state_dict``: its geometry follows it to another device, or to double
    precision, and stays as it is when a network is cast to half, averaged, emptied or broadcast.

    Attributes:
        src, dst: The two :class:`~fovigraph.SensorArray`.
        k: Neighbours of every destination, padding included: none has more edges.
        metric: ``"cortical"``, ``"visual"``, ``"geodesic"`` or ``"geodesic_from_node"``.
        edge_index: ``[2, E]``, row 0 source, row 1 destination; sorted by destination, then source.
        distance: ``[E]``, millimetres of cortex (degrees for the metric ``"visual"``).
        offset: ``[E, 2]``, where the neighbour sits in the kernel, in [-1, 1]²: PyG's
            pseudo-coordinates, but for their range.
        relative_distance: ``[E]``, the distance scaled to [0, 1] within its neighbourhood.
        ptr: Where the edges of each destination begin, ``[num_dst + 1]``.
        silent: Which destinations have no edges, ``[num_dst]``, where an array is masked: layers
            leave them at 0. ``None``: layers need not look.
        silent_src: The same of the sources, for layers that run against the edges.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.
    """

    edge_index: Tensor
    ptr: Tensor
    distance: Tensor
    offset: Tensor
    relative_distance: Tensor
    silent: Tensor | None = None
    silent_src: Tensor | None = None

    def __init__(
        self,
        src: SensorArray,
        dst: SensorArray,
        k: int,
        metric: str,
        *,
        edge_index: Tensor,
        distance: Tensor,
        offset: Tensor,
        relative_distance: Tensor,
    ):
        instance("src", src, SensorArray)
        instance("dst", dst, SensorArray)
        one_of("metric", metric, METRICS)
        k = positive_int("k", k, MAX_EDGES)
        given = (edge_index, distance, offset, relative_distance)
        geometry = dict(zip(GEOMETRY, given, strict=True))
        check_geometry(src, dst, geometry)
        self._set(src, dst, k, metric, geometry)
        most = int(self.ptr.diff().max())
        if most > k:  # the pools' kernels rely on it
            raise ValueError(f"k must be at least {most}, as many edges as a node has, got {k}")

    @classmethod
    def of_fitting(
        cls, src: SensorArray, dst: SensorArray, k: int, metric: str, geometry: Mapping[str, Tensor]
    ) -> KNNGraph:
        """Make a graph of what is known to fit, and so is not checked."""
        graph = cls.__new__(cls)
        graph._set(src, dst, k, metric, geometry)
        return graph

    def _set(
        self,
        src: SensorArray,
        dst: SensorArray,
        k: int,
        metric: str,
        geometry: Mapping[str, Tensor],
    ) -> None:
        super().__init__()
        self.src, self.dst, self.k, self.metric = src, dst, k, metric
        self.fix(**geometry, ptr=isolated(row_ptr)(geometry["edge_index"][1], len(dst)))
        if src.mask is not None or dst.mask is not None:
            sources, destinations = geometry["edge_index"]
            self.fix(
                silent=isolated(_without)(destinations, len(dst)),
                silent_src=isolated(_without)(sources, len(src)),
            )
        self._kernel_maps: dict[tuple[int, str, bool], KernelMap] = {}

    @property
    def num_src(self) -> int:
        """Number of source nodes."""
        return len(self.src)

    @property
    def num_dst(self) -> int:
        """Number of destination nodes."""
        return len(self.dst)

    @property
    def num_edges(self) -> int:
        """Number of edges E."""
        return self.edge_index.shape[1]

    def silence(self, out: Tensor, *, turned: bool = False) -> Tensor:
        """Return a layer's outputs ``[*, num_dst, C]`` with 0 where a masked graph has no edges.

        Args:
            out: The outputs.
            turned: Whether the layer runs against the edges: outputs are then of the sources.
        """
        silent = self.silent_src if turned else self.silent
        return out if silent is None else out.masked_fill(silent[:, None], 0)

    def size(self) -> tuple[int, int]:
        """``(num_src, num_dst)``, as PyG's operators take it."""
        return self.num_src, self.num_dst

    @property
    def edge_attr(self) -> Tensor:
        """Distance and offset of every edge, ``[E, 3]``: what PyG's operators take as one."""
        return torch.cat((self.distance[:, None], self.offset), dim=1)

    def kernel_map(self, kernel_size: int, interpolation: str = "nearest") -> KernelMap:
        """Return the triples (dst, src, cell) for a reference kernel of side ``kernel_size``.

        The same object every time for the same arguments, on the graph's device.

        Args:
            kernel_size: Side of the reference kernel.
            interpolation: ``"nearest"``: every edge has the cell nearest to its offset;
                ``"bilinear"``: a share of each of the four around it.

        Raises:
            ValueError, TypeError: If ``kernel_size`` is not from 1 to 1024, or the interpolation
                is unknown.
        """
        kernel_size = check_kernel_size(kernel_size)
        interpolation = one_of("interpolation", interpolation, INTERPOLATIONS)
        # What is traced under inference mode cannot be trained on: training has a map of its own.
        traced_for_inference = torch.compiler.is_compiling() and not torch.is_grad_enabled()
        key = kernel_size, interpolation, traced_for_inference
        if key not in self._kernel_maps:
            make = self._bilinear_map if interpolation == "bilinear" else self._nearest_map
            self._kernel_maps[key] = make(kernel_size)
        return self._kernel_maps[key]

    @isolated
    def _nearest_map(self, kernel_size: int) -> KernelMap:
        # Rows of their own: torch.export saves no two constants that are parts of one tensor.
        return KernelMap.of_fitting(
            self.edge_index[1].clone(),
            self.edge_index[0].clone(),
            cell_of(self.offset, kernel_size),
            num_dst=self.num_dst,
            num_src=self.num_src,
            num_cells=kernel_size**2,
        )

    @isolated
    def _bilinear_map(self, kernel_size: int) -> KernelMap:
        return KernelMap.bilinear(
            self.edge_index,
            self.offset,
            kernel_size,
            num_dst=self.num_dst,
            num_src=self.num_src,
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> KNNGraph:
        super()._apply(fn, recurse)
        self._kernel_maps.clear()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_kernel_maps": {}}  # type: ignore[misc]

    def _repr_html_(self) -> str:
        return graph_html(self)

    def extra_repr(self) -> str:
        metric = "" if self.metric == "cortical" else f", metric={self.metric!r}"
        return f"{self.num_src} → {self.num_dst} nodes, k={self.k}, {self.num_edges} edges{metric}"


@isolated
def knn_graph(src: SensorArray, dst: SensorArray, k: int, metric: str = "cortical") -> KNNGraph:
    """Connect every node of ``dst`` to its k nearest of the nodes and padding points of ``src``.

    Where the k-th and later distances tie (to a relative 1e-6), lower indices win, nodes before
    padding, so the graph is the same on every machine.

    Args:
        src: The array that edges come from.
        dst: The array that edges go to.
        k: Neighbours of every destination; capped at ``len(src)``.
        metric: Nearness on the cortex (``"cortical"``: straight line; ``"geodesic"``: along the
            surface, needs the extra ``geodesic``; ``"geodesic_from_node"``: the same, measured from
            the point of ``src`` nearest to the destination, as upstream does) or in the visual
            field (``"visual"``).

    Returns:
        The graph, without edges from padding.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above, ``k`` gives more than
            2²⁸ edges, or the arrays lie on different cortical surfaces and nearness is measured
            there.
        ImportError: If the metric is ``"geodesic"`` and its extra is not installed.

    Example:
        >>> from fovigraph import SensorArray, knn_graph
        >>> retina = SensorArray.matched(64)
        >>> knn_graph(retina, retina.strided(2), k=49)
        KNNGraph(4085 → 964 nodes, k=49, 45734 edges)
    """
    src, dst = instance("src", src, SensorArray), instance("dst", dst, SensorArray)
    k = positive_int("k", k)
    metric = one_of("metric", metric, METRICS)
    check_surfaces(src, dst, metric)
    if k > len(src):
        log.info("k=%d is more than the %d nodes of src; using k=%d", k, len(src), len(src))
        k = len(src)
    if k * len(dst) > MAX_EDGES:
        raise ValueError(
            f"k must be at most {MAX_EDGES // len(dst)}, which gives {MAX_EDGES:,} edges to {dst}, "
            f"got {k}"
        )

    points = [_visual(src), dst.degrees, src.mask, dst.mask]
    if metric != "visual":
        points += [_cortical(src), dst.cortical]
    geometry = stored(
        points,
        (k, metric, src._layout.period),
        k * len(dst) >= LEAST or metric not in ("visual", "cortical"),
        lambda: _nearest(src, dst, k, metric),
        lambda geometry: check_geometry(src, dst, geometry),
    )
    return KNNGraph.of_fitting(src, dst, k, metric, geometry)


def _nearest(src: SensorArray, dst: SensorArray, k: int, metric: str) -> dict[str, Tensor]:
    visual, dst_visual, period = _visual(src), dst.degrees, src._layout.period
    if metric == "visual":
        index, distance = k_nearest(visual, dst_visual, k)
    elif metric == "cortical":
        index, distance = k_nearest(_cortical(src), dst.cortical, k, period)
    else:
        from_node = metric == "geodesic_from_node"
        index, distance = k_nearest_geodesic(
            visual,
            _cortical(src),
            dst_visual,
            dst.cortical,
            k,
            most=len(src) if from_node else None,  # as many as upstream takes
            from_node=from_node,
        )
    return _geometry(src, dst, metric, index, distance)


@isolated
def graph_from_neighbours(
    src: SensorArray, dst: SensorArray, neighbours: Tensor, metric: str = "cortical"
) -> KNNGraph:
    """Connect every node of ``dst`` to given nodes and padding points of ``src``.

    For neighbourhoods that were found elsewhere: the geometry is computed here, as
    :func:`knn_graph` does.

    Args:
        src: The array that edges come from.
        dst: The array that edges go to.
        neighbours: ``[num_dst, k]``, whole numbers, in any order and none twice in a row: n stands
            for node n of ``src``, ``len(src) + p`` for its padding point p.
        metric: What the graph's distances measure, as in :func:`knn_graph`; straight lines on the
            cortex for ``"geodesic"`` too.

    Returns:
        The graph, without edges from padding.

    Raises:
        ValueError, TypeError: If the neighbours are not such numbers, or the metric is unknown.
    """
    src, dst = instance("src", src, SensorArray), instance("dst", dst, SensorArray)
    metric = one_of("metric", metric, METRICS)
    if not isinstance(neighbours, Tensor):
        raise TypeError(f"neighbours must be a torch.Tensor, got {shown(neighbours)}")
    if neighbours.is_floating_point() or neighbours.is_complex() or neighbours.dtype == torch.bool:
        raise TypeError(f"neighbours must be whole numbers, got {neighbours.dtype}")
    points = len(src) + len(src.padding_cartesian)
    shape = list(neighbours.shape)
    if len(shape) != 2 or shape[0] != len(dst) or not 1 <= shape[1] <= points:
        raise ValueError(
            f"neighbours must have shape [{len(dst)}, k], k from 1 to {points}, got {shape}"
        )
    index = neighbours.cpu().long().sort(dim=1).values
    low, high = int(index[:, 0].min()), int(index[:, -1].max())
    if low < 0 or high >= points:
        raise ValueError(
            f"neighbours must be from 0 to {points - 1} ({len(src)} nodes, "
            f"{points - len(src)} padding points), got {low} to {high}"
        )
    twice = (index[:, 1:] == index[:, :-1]).any(dim=1)
    if twice.any():
        row = int(twice.int().argmax())
        raise ValueError(f"neighbours must not name a node twice, as they do for node {row} of dst")
    return connect(src, dst, metric, index)


def check_geometry(
    src: SensorArray, dst: SensorArray, geometry: Mapping[str, Any], prefix: str = ""
) -> None:
    """Say what is wrong with the tensors of a :class:`KNNGraph` from one array to another.

    Args:
        src, dst: The arrays.
        geometry: The tensors, by the names in :data:`GEOMETRY`.
        prefix: What errors say before these names.

    Raises:
        ValueError, TypeError: If the tensors do not fit the arrays or one another.
    """
    edge_index = index_tensor(f"{prefix}edge_index", geometry["edge_index"], (2, "E"))
    if edge_index.is_meta:
        raise ValueError(f"{prefix}edge_index must have values, got a tensor on the meta device")
    sources, destinations = edge_index
    order = destinations * len(src) + sources
    inside = _below(sources, len(src)) and _below(destinations, len(dst))
    if not (inside and (order.diff() > 0).all()):
        raise ValueError(
            f"{prefix}edge_index must be sorted by destination, then source, without repeats, and "
            f"name nodes of {len(src)} sources and {len(dst)} destinations"
        )
    count = len(order)
    for name, (low, high) in RANGES.items():
        values = float_tensor(f"{prefix}{name}", geometry[name])
        if values.shape != ((count, 2) if name == "offset" else (count,)):
            raise ValueError(
                f"{prefix}{name} must have one entry for each of the {count} edges, "
                f"got shape {list(values.shape)}"
            )
        same_device(**{f"{prefix}edge_index": edge_index, f"{prefix}{name}": values})
        least, most = (float(end) for end in values.aminmax()) if count else (low, low)
        # NaN is not inside, either.
        if not (low - ROUNDING <= least and most <= high + ROUNDING and math.isfinite(most)):
            allowed = f"from {low} to {high}" if math.isfinite(high) else f"at least {low}"
            raise ValueError(
                f"{prefix}{name} must be finite and {allowed}, got {least:g} to {most:g}"
            )


def _below(nodes: Tensor, count: int) -> bool:
    low, high = (int(end) for end in nodes.aminmax()) if len(nodes) else (0, -1)
    return low >= 0 and high < count


def points_of(array: SensorArray) -> tuple[Tensor, Tensor]:
    """Nodes, then padding: in the visual field (degrees), ``[P, 2]``, and on the cortex."""
    return _visual(array), _cortical(array)


def _visual(array: SensorArray) -> Tensor:
    return torch.cat((array.cartesian, array.padding_cartesian)) * (array.fov / 2)


def _cortical(array: SensorArray) -> Tensor:
    return torch.cat((array.cortical, array.padding_cortical))


def _without(nodes: Tensor, count: int) -> Tensor | None:
    """Which of so many nodes are not named, ``[count]``; ``None``: all are."""
    named = torch.zeros(count, dtype=torch.bool, device=nodes.device)
    named[nodes] = True
    return None if named.all() else ~named


def connect(
    src: SensorArray, dst: SensorArray, metric: str, index: Tensor, distance: Tensor | None = None
) -> KNNGraph:
    """Make the graph of the neighbours ``[num_dst, k]``, ascending in each row.

    A neighbour below 0 is an empty slot: it has no edge, and lies at the destination.

    Args:
        src, dst, metric: As :func:`knn_graph` has them.
        index: Nodes, then padding points of ``src``.
        distance: Of every neighbour; straight lines unless given.
    """
    geometry = _geometry(src, dst, metric, index, distance)
    return KNNGraph.of_fitting(src, dst, index.shape[1], metric, geometry)


def _geometry(
    src: SensorArray, dst: SensorArray, metric: str, index: Tensor, distance: Tensor | None
) -> dict[str, Tensor]:
    """Return the tensors of the graph that :func:`connect` makes."""
    step = _visual(src)[index] - dst.degrees[:, None]
    if metric == "visual":
        length = step.norm(dim=-1)
    else:
        length = length_of(_cortical(src)[index] - dst.cortical[:, None], src._layout.period)
    length = torch.where(index < 0, 0.0, length)
    distance = length if distance is None else distance
    offset = _kernel_offset(step, length)
    real = is_edge(src, dst, index)
    receiver = torch.arange(len(dst))[:, None].expand_as(index)
    return {
        "edge_index": torch.stack((index[real], receiver[real])),
        "distance": distance[real].float(),
        "offset": offset[real].float(),
        "relative_distance": _scaled(distance, 0.0)[real].float(),
    }


def is_edge(src: SensorArray, dst: SensorArray, index: Tensor) -> Tensor:
    """Which of the neighbours ``[num_dst, k]`` have edges: nodes, and neither end is masked."""
    real = (index >= 0) & (index < len(src))
    if src.mask is not None:
        real &= src.mask[index.clamp(0, len(src) - 1)]
    if dst.mask is not None:
        real &= dst.mask[:, None]
    return real


def check_surfaces(src: SensorArray, dst: SensorArray, metric: str) -> None:
    """Say what is wrong with a metric between two arrays, such as surfaces that differ."""
    flat = metric != "visual" and src.cortical.shape[1] == 2
    if flat and (metric == "geodesic" or (metric != "cortical" and src._layout.period)):
        raise ValueError(
            "metric must be 'cortical' or 'visual' for layouts with a flat cortex, where the way "
            f"along it is the straight line, got {metric!r} for {src}"
        )
    if metric != "visual" and _surface(src) != _surface(dst):
        raise ValueError(
            f"src and dst must lie on the same cortical surface for metric={metric!r}, got "
            f"{src} and {dst}; metric='visual' compares places in the visual field"
        )


def _surface(array: SensorArray) -> tuple[object, ...]:
    size = array.fov if array._layout.fitted else None
    shape = (array.extent, array.norm) if array._layout.relative else None
    return array.layout, array.cmf_a, array.field_geometry, size, shape


def _kernel_offset(step: Tensor, length: Tensor) -> Tensor:
    """Where neighbours sit in the kernel: visual direction, cortical length, scaled to [-1, 1].

    Args:
        step: From the destination to its neighbours in the visual field, ``[N, k, 2]``.
        length: Their distances, ``[N, k]``.
    """
    angle = torch.atan2(step[..., 1], step[..., 0])
    local = length[..., None] * torch.stack((angle.cos(), angle.sin()), dim=-1)
    return 2 * _scaled(local, 1e-6) - 1


def _scaled(values: Tensor, margin: float) -> Tensor:
    """Scale values ``[N, k, …]`` to [0, 1] within each neighbourhood, padding included."""
    low, high = values.aminmax(dim=1, keepdim=True)
    span = high - low + margin
    return (values - low) / torch.where(span > 0, span, 1.0)
