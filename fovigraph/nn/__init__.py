"""Layers on foveated graphs, to be used together with PyG's own."""

from fovigraph.graph.step import POOL_MODES
from fovigraph.nn.attention import GraphAttention
from fovigraph.nn.circular import around
from fovigraph.nn.drop_path import DropPath
from fovigraph.nn.knn_conv import KNNConv, KNNDepthwiseConv, KNNSeparableConv
from fovigraph.nn.knn_pool import KNNPool
from fovigraph.nn.knn_unpool import KNNConvTranspose, KNNUnpool
from fovigraph.nn.norm import GRN, NORMS, BatchNorm, GroupNorm, LayerNorm, make_norm
from fovigraph.nn.on_graph import OnGraph, disjoint_edges
from fovigraph.nn.positions import (
    CyclicShift,
    LearnedPosition,
    Rotary,
    SinusoidalPosition,
    positions_of,
)

__all__ = [
    "GRN",
    "NORMS",
    "POOL_MODES",
    "BatchNorm",
    "CyclicShift",
    "DropPath",
    "GraphAttention",
    "GroupNorm",
    "KNNConv",
    "KNNConvTranspose",
    "KNNDepthwiseConv",
    "KNNPool",
    "KNNSeparableConv",
    "KNNUnpool",
    "LayerNorm",
    "LearnedPosition",
    "OnGraph",
    "Rotary",
    "SinusoidalPosition",
    "around",
    "disjoint_edges",
    "make_norm",
    "positions_of",
]
