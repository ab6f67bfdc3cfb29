"""What every layer does first: sort out how it was called, and refuse what is wrong."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing

from fovigraph._tensors import if_channels_first
from fovigraph.graph import KNNGraph

Features = Tensor | tuple[Tensor, Tensor | None]
"""Node features ``[*, N, C]``, or a pair of those of the sources and of the destinations."""


class Bipartite(NamedTuple):
    """Source features and edges, however a layer was called."""

    x: Tensor
    edge_index: Tensor
    size: tuple[int, int]


def bipartite(x: Features, graph: KNNGraph | Tensor, size: tuple[int, int] | None) -> Bipartite:
    """Bring a :class:`KNNGraph` or a raw ``edge_index`` and its features into one form.

    Raises:
        TypeError, ValueError: If ``x``, ``graph`` or ``size`` do not fit one another.
    """
    source = x[0] if isinstance(x, tuple) else x
    if not isinstance(source, Tensor) or source.dim() < 2:
        given = f"shape {list(source.shape)}" if isinstance(source, Tensor) else repr(source)
        raise ValueError(f"x must be node features [..., nodes, channels], got {given}")
    if isinstance(graph, KNNGraph):
        if size is not None and tuple(size) != graph.size():
            raise ValueError(f"size must be {graph.size()} or None for {graph}, got {tuple(size)}")
        edge_index, size = graph.edge_index, graph.size()
    elif isinstance(graph, Tensor):
        edge_index = graph
        if edge_index.dim() != 2 or edge_index.shape[0] != 2 or edge_index.dtype != torch.int64:
            raise ValueError(
                "edge_index must be int64 of shape [2, edges], got "
                f"{edge_index.dtype} of shape {list(edge_index.shape)}"
            )
        size = size or _size_of_features(x)
        _check_nodes(edge_index, size)
    else:
        raise TypeError(
            f"graph must be a KNNGraph or an edge_index tensor, got {type(graph).__name__}"
        )
    if source.shape[-2] != size[0]:
        raise ValueError(
            f"x must have as many nodes as the graph has sources, {size[0]}, "
            f"got {source.shape[-2]} (shape {list(source.shape)})"
            f"{if_channels_first(source.shape, size[0])}"
        )
    if source.device != edge_index.device:
        raise ValueError(f"x is on {source.device} and the graph on {edge_index.device}")
    return Bipartite(source, edge_index, size)


def _size_of_features(x: Features) -> tuple[int, int]:
    """PyG's convention: one tensor is both ends, a pair is its own two ends."""
    if not isinstance(x, tuple):
        return x.shape[-2], x.shape[-2]
    if x[1] is None:
        raise ValueError("size must be (num_src, num_dst) when x is (x_src, None), got None")
    return x[0].shape[-2], x[1].shape[-2]


def _check_nodes(edge_index: Tensor, size: tuple[int, int]) -> None:
    if edge_index.numel() == 0:
        return
    highest = edge_index.amax(dim=1).tolist()
    if int(edge_index.min()) < 0 or highest[0] >= size[0] or highest[1] >= size[1]:
        raise ValueError(
            f"edge_index must name nodes below size={tuple(size)}, got from "
            f"{int(edge_index.min())} up to {tuple(highest)}"
        )


def check_channels(x: Tensor, channels: int, weight: Tensor) -> None:
    """Refuse features of another number of channels, device or dtype than the weights'."""
    if x.device != weight.device:
        raise ValueError(f"x is on {x.device} and the layer's weight on {weight.device}")
    if x.shape[-1] != channels:
        raise ValueError(
            f"x must have {channels} channels (its last dimension), got {x.shape[-1]} "
            f"(shape {list(x.shape)})"
        )
    if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        raise TypeError(f"x must be {weight.dtype} like the layer's weight, got {x.dtype}")


def wants_messages(layer: MessagePassing) -> bool:
    """Whether somebody looks at single messages: an explainer, or a hook on a step of propagate."""
    return bool(layer.explain) or any(
        hooks
        for name, hooks in vars(layer).items()
        if name.startswith(("_propagate_", "_message_", "_aggregate_")) and name.endswith("_hooks")
    )
