"""The graphs between sensor arrays, and the pyramid that a network is built on."""

from fovigraph.graph.kernel_map import KernelMap, nearest_cell
from fovigraph.graph.knn_graph import METRICS, KNNGraph, knn_graph

__all__ = ["METRICS", "KNNGraph", "KernelMap", "knn_graph", "nearest_cell"]
