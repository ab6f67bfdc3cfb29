"""Neighbour lists of upstream's layers, in place of the canonical graphs.

Which of several equally near neighbours upstream takes depends on rounding, and so differs between
machines. Lists exported from a network on one machine reproduce that network exactly, together with
the coordinates at which it samples images, whose last bits depend on rounding too. Those that
upstream has on this machine can be recomputed (:mod:`fovigraph.interop.recomputed`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fovigraph._checks import instance, path_of, shown
from fovigraph.graph import Connection, GraphPyramid, KNNGraph, graph_from_neighbours, nearest_cell
from fovigraph.graph.knn_graph import is_edge
from fovigraph.graph.search import k_nearest, length_of
from fovigraph.interop.checkpoint import read_tensors
from fovigraph.interop.family import family_of
from fovigraph.interop.recomputed import PLACES, RECOMPUTED, recomputed_neighbours
from fovigraph.models import FoviNet
from fovigraph.models.wrapped import unwrapped

Lists = Mapping[str, Tensor]

_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)

_OFF = 1e-4
"""Largest distance of given sample coordinates from ours, in radii of the field of view."""

_REACH = 1e-3
"""How much farther than the nearest, relatively and in millimetres, given neighbours may lie:
upstream's distances are that inexact."""

_SHIFT = 0.5
"""How far outside its given cell a neighbour may lie by our geometry, in cells."""

_WITHIN = 0.01
"""How far inside it it is put then, in cells."""


def use_neighbours(net: FoviNet, lists: Lists | str | os.PathLike[str]) -> None:
    """Give a network the neighbourhoods of an upstream network, instead of the canonical ones.

    Saving the network does not save them.

    Args:
        net: The network; its pyramid is replaced.
        lists: For every layer L of upstream's ``model.list_knn_layers()`` a tensor
            ``"L.neighbours"``, its ``knn_indices``, ``[k, nodes]``, and for a convolution
            ``"L.cells"``, its ``local_rf.argmax(-1).T``, of the same shape; and
            ``"retina.cartesian"``, upstream's ``retinal_transform.sampler.coords.cartesian``,
            ``[N, 2]``. Or the file that ``torch.save`` or safetensors wrote them to. Without cells
            or places, our geometry decides. ``"recomputed"`` stands for
            :func:`~fovigraph.interop.recomputed_neighbours`, upstream's on this machine's CPU (a
            file of that name is ``"./recomputed"``).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError, TypeError: If the file cannot be read, lists are missing or unknown, or they do
            not fit the network's geometry.
    """
    instance("net", net, FoviNet)
    check_lists("lists", lists)
    source, lists = _read(recomputed_neighbours(net) if lists == RECOMPUTED else lists)
    pyramid, places = net.pyramid, lists.pop(PLACES, None)
    if places is not None:
        places = _checked_places(source, places, net.retina.array.cartesian)
    backbone = unwrapped(net.backbone)
    ours = net.config.backbone
    connections = family_of(ours).connections(backbone, ours)  # type: ignore[arg-type]
    _check_names(source, lists, connections)
    graphs = _graphs(source, lists, connections, pyramid)
    steps = [graphs[connection] for connection in pyramid.connections]
    new = GraphPyramid(pyramid.levels[0], pyramid.steps, pyramid.metric, steps)
    for connection, graph in graphs.items():
        if connection.kind == "between":
            new.connect(connection, graph)
    device = next(net.parameters()).device
    backbone.pyramid = new.to(device)
    if places is not None:
        net.retina.grid = places.to(device)


def check_lists(name: str, lists: Any) -> None:
    """Check that lists of neighbours are named tensors, or what may be the path of their file."""
    if isinstance(lists, (str, os.PathLike)):
        path_of(name, lists)
        return
    if not isinstance(lists, Mapping):
        raise TypeError(f"{name} must be named tensors, or their file's path, got {shown(lists)}")
    for key, tensor in lists.items():
        instance(f"the names of {name}", key, str, allowed="strings")
        instance(f"{name}[{key!r}]", tensor, Tensor, allowed="a tensor")


def _read(lists: Lists | str | os.PathLike[str]) -> tuple[str, dict[str, Tensor]]:
    """Return where lists come from, for errors, and the lists under the names of layers."""
    source = "lists"
    if isinstance(lists, (str, os.PathLike)):
        path = path_of("lists", lists)
        source, content = str(path), read_tensors(path)
        lists = _as_lists(source, content)
    return source, {name.removeprefix("network."): values for name, values in lists.items()}


def _check_names(source: str, lists: Lists, connections: Mapping[str, Connection]) -> None:
    wanted = {f"{layer}.neighbours" for layer in connections}
    optional = {
        f"{layer}.cells" for layer, each in connections.items() if each.kernel_size is not None
    }
    for what, which in (
        ("lacks", wanted - lists.keys()),
        ("has, unlike the network,", lists.keys() - wanted - optional),
    ):
        if which:
            raise ValueError(f"{source} {what} {', '.join(sorted(which))}")


def _as_lists(source: str, content: object) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not all(isinstance(t, Tensor) for t in content.values()):
        raise ValueError(f"{source} must hold named tensors")
    return {str(name): tensor for name, tensor in content.items()}


def _checked_places(source: str, places: Tensor, ours: Tensor) -> Tensor:
    if places.shape != ours.shape:
        raise ValueError(
            f"{source}: {PLACES} must have shape {list(ours.shape)}, got {list(places.shape)}"
        )
    if not places.is_floating_point():
        raise ValueError(f"{source}: {PLACES} must be of floating point, got {places.dtype}")
    off = float((places.double() - ours).abs().max())
    if not off <= _OFF:
        raise ValueError(
            f"{source}: {PLACES} are not the places of this network's retina: they are up to "
            f"{off:.2g} radii of the field of view away from them"
        )
    return places.float()


def _graphs(
    source: str, lists: Lists, connections: Mapping[str, Connection], pyramid: GraphPyramid
) -> dict[Connection, KNNGraph]:
    """Make the graphs of all connections; equal lists over equal levels give the same graph."""
    made: list[tuple[KNNGraph, int | None, Tensor, Tensor | None, KNNGraph]] = []
    graphs: dict[Connection, KNNGraph] = {}
    for layer, connection in connections.items():
        neighbours, cells = lists[f"{layer}.neighbours"], lists.get(f"{layer}.cells")
        usual, size = pyramid.graph(connection), connection.kernel_size
        graph = next(
            (
                graph
                for before, its_size, its_neighbours, its_cells, graph in made
                if before is usual
                and its_size == size
                and _same(its_neighbours, neighbours)
                and _same(its_cells, cells)
            ),
            None,
        )
        if graph is None:
            try:
                graph = _graph(usual, size, neighbours, cells)
            except (ValueError, TypeError) as error:
                raise type(error)(f"{source}: {layer}: {error}") from error
            made.append((usual, size, neighbours, cells, graph))
        if graphs.setdefault(connection, graph) is not graph:
            other = next(name for name, each in connections.items() if each == connection)
            raise ValueError(
                f"{source}: {layer}: neighbours and cells must be those of {other}, which runs "
                "between the same levels"
            )
    return graphs


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one, other)


def _graph(usual: KNNGraph, size: int | None, neighbours: Tensor, cells: Tensor | None) -> KNNGraph:
    """Make a graph from upstream's ``[k, nodes]`` lists, in place of the canonical one."""
    shape = (usual.k, usual.num_dst)
    if neighbours.dtype not in _WHOLE:
        raise TypeError(f"neighbours must be whole numbers, got {neighbours.dtype}")
    if neighbours.shape != shape:
        raise ValueError(f"neighbours must have shape {list(shape)}, got {list(neighbours.shape)}")
    graph = graph_from_neighbours(usual.src, usual.dst, neighbours.t(), usual.metric)
    _check_reach(usual, neighbours.t().long())
    if cells is None or size is None:
        return graph
    if cells.shape != shape:
        raise ValueError(f"cells must have shape {list(shape)}, got {list(cells.shape)}")
    if cells.dtype not in _WHOLE:
        raise TypeError(f"cells must be whole numbers, got {cells.dtype}")
    ordered, order = neighbours.t().long().sort(dim=1)
    real = is_edge(usual.src, usual.dst, ordered)
    return _with_cells(graph, cells.t().long().gather(1, order)[real], size)


def _check_reach(usual: KNNGraph, neighbours: Tensor) -> None:
    """Refuse neighbours ``[nodes, k]`` that are not the nearest of this geometry."""
    if usual.metric.startswith("geodesic"):
        return
    src, dst = usual.src, usual.dst
    if usual.metric == "cortical":
        points, places = torch.cat((src.cortical, src.padding_cortical)), dst.cortical
    else:
        points = torch.cat((src.cartesian, src.padding_cartesian)) * (src.fov / 2)
        places = dst.degrees
    period = src._layout.period if usual.metric == "cortical" else None
    reach = length_of(points[neighbours] - places[:, None], period).amax(dim=1)
    needed = k_nearest(points, places, usual.k, period)[1].amax(dim=1)
    far = reach > needed * (1 + _REACH) + _REACH
    if far.any():
        node = int(far.int().argmax())
        raise ValueError(
            f"these are not the nearest neighbours in this network's geometry: those of node "
            f"{node} reach {float(reach[node]):g}, the {usual.k} nearest {float(needed[node]):g} "
            f"({int(far.sum())} of {len(far)} nodes); another field_geometry or cmf_a?"
        )


def _with_cells(graph: KNNGraph, cells: Tensor, size: int) -> KNNGraph:
    """Return the graph with offsets that fall in the given cells, ``[E]``.

    Where upstream's rounding put a neighbour on the other side of the border between two cells,
    it is moved across. Where the cortex runs in a circle upstream measures straight across it, so
    that its cells are far from ours: there they are taken as they are.
    """
    if int(cells.min()) < 0 or int(cells.max()) >= size**2:
        raise ValueError(
            f"cells must be from 0 to {size**2 - 1}, got {int(cells.min())} to {int(cells.max())}"
        )
    if size == 1:
        return graph
    place = (graph.offset.double() + 1) / 2 * (size - 1)
    corner = torch.stack((cells // size, cells % size), dim=-1) - 0.5
    inside = place.clamp(corner + _WITHIN, corner + 1 - _WITHIN)
    moved = (nearest_cell(graph.offset, size) != cells)[:, None]
    shift = float(((inside - place).abs() * moved).max())
    if shift > _SHIFT + _WITHIN and graph.src._layout.period is None:
        raise ValueError(
            f"cells do not fit this network's geometry: a neighbour lies {shift:.2f} cells from "
            "the one it is given; another field_geometry, cmf_a or kernel?"
        )
    offset = torch.where(moved, inside * 2 / (size - 1) - 1, graph.offset.double()).float()
    assert torch.equal(nearest_cell(offset, size), cells)
    return KNNGraph(
        graph.src,
        graph.dst,
        graph.k,
        graph.metric,
        edge_index=graph.edge_index,
        distance=graph.distance,
        offset=offset,
        relative_distance=graph.relative_distance,
    )
