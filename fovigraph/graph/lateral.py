"""Graphs within a level, and from a level back down to a finer one."""

from __future__ import annotations

from fovigraph._checks import flag, instance, positive_int
from fovigraph.geometry import SensorArray
from fovigraph.geometry.fixed import isolated
from fovigraph.graph.knn_graph import GEOMETRY, KNNGraph, graph_from_neighbours, knn_graph
from fovigraph.graph.search import k_nearest


@isolated
def lateral_graph(
    array: SensorArray, k: int, *, self_loops: bool = False, metric: str = "cortical"
) -> KNNGraph:
    """Connect every node to its k nearest within the same array.

    The neighbourhoods are those of a convolution: padding beyond the field of view counts among the
    k, so nodes at the border have fewer edges, and offsets mean the same everywhere.

    Args:
        array: The nodes.
        k: Neighbours of every node, itself included only with ``self_loops``.
        self_loops: Whether every node is its own first neighbour.
        metric: Nearness, as in :func:`~fovigraph.knn_graph`.

    Returns:
        The graph from the array to itself: with ``self_loops``, ``knn_graph(array, array, k)``.

    Raises:
        ValueError, TypeError: If ``k`` is below 1 or more than there are, or the metric is unknown.
    """
    instance("array", array, SensorArray)
    flag("self_loops", self_loops)
    k, most = positive_int("k", k), len(array) - (not self_loops)
    if k > most:
        kind = "nodes" if self_loops else "other nodes"
        raise ValueError(f"k must be at most {most}, the number of {kind} in {array}, got {k}")
    graph = knn_graph(array, array, k + (not self_loops), metric)
    if self_loops:
        return graph
    others = graph.edge_index[0] != graph.edge_index[1]
    geometry = {name: getattr(graph, name)[others] for name in GEOMETRY[1:]}
    geometry["edge_index"] = graph.edge_index[:, others]
    return KNNGraph.of_fitting(array, array, k, metric, geometry)


@isolated
def up_graph(src: SensorArray, dst: SensorArray, k: int) -> KNNGraph:
    """Connect every node of a finer array to its k nearest nodes of a coarser one.

    What :class:`~fovigraph.nn.KNNUnpool` interpolates over: padding, which carries no features, is
    no neighbour here.

    Args:
        src: The coarser array, whose features are known.
        dst: The finer array.
        k: Neighbours of every node, all of them real.

    Raises:
        ValueError, TypeError: If ``k`` is below 1 or more than there are nodes in ``src``.
    """
    src, dst = instance("src", src, SensorArray), instance("dst", dst, SensorArray)
    k = positive_int("k", k)
    nodes = src.valid_nodes  # masked ones carry nothing either
    if k > len(nodes):
        raise ValueError(f"k must be at most {len(nodes)}, the number of nodes in {src}, got {k}")
    metric = "cortical" if src.has_cortex else "visual"
    ends = (src.cortical, dst.cortical) if src.has_cortex else (src.degrees, dst.degrees)
    period = src._layout.period if src.has_cortex else None
    index, _ = k_nearest(ends[0][nodes], ends[1], k, period)
    return graph_from_neighbours(src, dst, nodes[index], metric)
