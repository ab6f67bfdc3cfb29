"""The graphs between sensor arrays, and the pyramid that a network is built on."""

from fovigraph.graph.kernel_map import KernelMap, Triples, nearest_cell
from fovigraph.graph.knn_graph import METRICS, KNNGraph, graph_from_neighbours, knn_graph
from fovigraph.graph.pyramid import GraphPyramid, ReceptiveField, Stage

__all__ = [
    "METRICS",
    "GraphPyramid",
    "KNNGraph",
    "KernelMap",
    "ReceptiveField",
    "Stage",
    "Triples",
    "graph_from_neighbours",
    "knn_graph",
    "nearest_cell",
]
