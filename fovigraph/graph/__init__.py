"""The graphs between sensor arrays, and the pyramid that a network is built on."""

from fovigraph._deprecated import module_getattr
from fovigraph.graph.kernel_map import KernelMap, Triples, nearest_cell
from fovigraph.graph.knn_graph import METRICS, KNNGraph, graph_from_neighbours, knn_graph
from fovigraph.graph.patches import PatchStep
from fovigraph.graph.plan import Plan
from fovigraph.graph.pyramid import GraphPyramid, ReceptiveField
from fovigraph.graph.step import Connection, Step

__all__ = [
    "METRICS",
    "Connection",
    "GraphPyramid",
    "KNNGraph",
    "KernelMap",
    "PatchStep",
    "Plan",
    "ReceptiveField",
    "Step",
    "Triples",
    "graph_from_neighbours",
    "knn_graph",
    "nearest_cell",
]

__getattr__ = module_getattr(__name__, {"Stage": "Step"})
