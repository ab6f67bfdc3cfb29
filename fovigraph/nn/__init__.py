"""Layers on foveated graphs, beside PyG's own."""

from fovigraph.nn.knn_conv import KNNConv, KNNDepthwiseConv, KNNSeparableConv
from fovigraph.nn.knn_pool import POOL_MODES, KNNPool
from fovigraph.nn.norm import NORMS, BatchNorm, GroupNorm, LayerNorm, make_norm

__all__ = [
    "NORMS",
    "POOL_MODES",
    "BatchNorm",
    "GroupNorm",
    "KNNConv",
    "KNNDepthwiseConv",
    "KNNPool",
    "KNNSeparableConv",
    "LayerNorm",
    "make_norm",
]
