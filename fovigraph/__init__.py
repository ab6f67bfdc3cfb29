"""fovigraph: foveated vision as graph neural networks.

A retina's samples are nodes, each layer is a bipartite kNN graph to the next layer's nodes, and a
convolution is message passing whose weight is looked up by relative position.

Everything below is imported when it is first used, as PyTorch and PyG take seconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fovigraph import _interrupt as _interrupt  # the first: whatever follows may take seconds
from fovigraph._deprecated import warn_renamed

if TYPE_CHECKING:
    from fovigraph import data, geometry, graph, models, nn, ops, sensing
    from fovigraph import interop as interop
    from fovigraph import train as train
    from fovigraph import viz as viz
    from fovigraph._shipped import list_models
    from fovigraph.config import ConfigError, config_names, load_config, save_config
    from fovigraph.geometry import SensorArray
    from fovigraph.graph import GraphPyramid, KernelMap, KNNGraph, Plan, Step, knn_graph
    from fovigraph.interop import from_upstream
    from fovigraph.models import (
        FoviNet,
        FoviOutput,
        KNNAlexNet,
        KNNAlexNetBlock,
        create_model,
        optimize,
    )
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
    "Plan",
    "Retina",
    "SensorArray",
    "Step",
    "config_names",
    "create_model",
    "data",
    "fixation_policy",
    "from_upstream",
    "geometry",
    "graph",
    "knn_graph",
    "list_models",
    "load_config",
    "models",
    "nn",
    "ops",
    "optimize",
    "read_image",
    "save_config",
    "sensing",
]

_MORE = ("interop", "train", "viz")
"""Modules that need extras: a star import leaves them out."""

_HOMES = {
    "_shipped": ("list_models",),
    "config": ("ConfigError", "config_names", "load_config", "save_config"),
    "geometry": ("SensorArray",),
    "graph": ("GraphPyramid", "KernelMap", "KNNGraph", "Plan", "Step", "knn_graph"),
    "interop": ("from_upstream",),
    "models": (
        *("FoviNet", "FoviOutput", "KNNAlexNet", "KNNAlexNetBlock"),
        *("create_model", "optimize"),
    ),
    "sensing": ("FixationPolicy", "Retina", "fixation_policy", "read_image"),
}
"""Where the names are defined that are not modules themselves."""

_RENAMED = {"Stage": "Step"}
"""New names by those that go with the next release."""

_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"fovigraph.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in __all__ or name in _MORE:
        return importlib.import_module(f"fovigraph.{name}")
    if name in _RENAMED:
        warn_renamed(f"fovigraph.{name}", f"fovigraph.{_RENAMED[name]}")
        return __getattr__(_RENAMED[name])
    raise AttributeError(f"module 'fovigraph' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MORE})
