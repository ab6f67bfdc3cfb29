"""The computations behind the layers: where the fast paths live."""

from fovigraph.ops.knn_conv import knn_conv
from fovigraph.ops.knn_depthwise import knn_depthwise_conv
from fovigraph.ops.knn_pool import knn_pool

__all__ = ["knn_conv", "knn_depthwise_conv", "knn_pool"]
