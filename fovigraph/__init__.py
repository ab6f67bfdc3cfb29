"""fovigraph: foveated vision as graph neural networks.

A retina's samples are nodes, each layer is a bipartite kNN graph to the next layer's nodes, and a
convolution is message passing whose weight is looked up by relative position.
"""

from fovigraph import _interrupt as _interrupt  # isort: skip # first: the others take seconds
from fovigraph import data, geometry, graph, models, nn, ops, sensing
from fovigraph.config import ConfigError, config_names, load_config, save_config
from fovigraph.geometry import SensorArray
from fovigraph.graph import GraphPyramid, KernelMap, KNNGraph, Stage, knn_graph
from fovigraph.models import FoviNet, FoviOutput, KNNAlexNet, KNNAlexNetBlock, optimize
from fovigraph.sensing import FixationPolicy, Retina, fixation_policy, read_image

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "FixationPolicy",
    "FoviNet",
    "FoviOutput",
    "GraphPyramid",
    "KNNAlexNet",
    "KNNAlexNetBlock",
    "KNNGraph",
    "KernelMap",
    "Retina",
    "SensorArray",
    "Stage",
    "config_names",
    "data",
    "fixation_policy",
    "geometry",
    "graph",
    "knn_graph",
    "load_config",
    "models",
    "nn",
    "ops",
    "optimize",
    "read_image",
    "save_config",
    "sensing",
]
