"""What every layer does first: sort out how it was called, and refuse what is wrong."""

from __future__ import annotations

from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing

from fovigraph._checks import shown
from fovigraph._tensors import float_tensor, if_channels_first, index_tensor, same_device
from fovigraph.graph import KNNGraph
from fovigraph.ops.operands import autocast_dtype, floating
from fovigraph.ops.transforms import transformed

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
    source = source_features(x)
    size = None if size is None else node_counts("size", size)
    if isinstance(graph, KNNGraph):
        if size is not None and size != graph.size():
            raise ValueError(f"size must be {graph.size()} or None for {graph}, got {size}")
        edge_index, size = graph.edge_index, graph.size()
    elif isinstance(graph, Tensor):
        edge_index = check_edges(graph)
        size = size or _size_of_features(x)
        check_nodes(edge_index, size)
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


def source_features(x: Features) -> Tensor:
    """Return the features of the sources, of features or a pair of them."""
    pair = x if isinstance(x, tuple) else (x, None)
    if len(pair) != 2 or not all(isinstance(one, Tensor) for one in pair if one is not None):
        raise TypeError(
            "x must be node features, a torch.Tensor [..., nodes, channels], or a pair "
            f"(x_src, x_dst) of them, got {shown(x)}"
        )
    source = pair[0]
    if source is None or source.dim() < 2:
        given = None if source is None else f"shape {list(source.shape)}"
        raise ValueError(f"x must be node features [..., nodes, channels], got {given}")
    return source


def node_counts(name: str, value: Any) -> tuple[int, int]:
    """Return ``value``, or say that ``name`` must be ``(num_src, num_dst)``."""
    wanted = f"{name} must be (num_src, num_dst), two whole numbers of at least 0, got"
    counts = isinstance(value, tuple | list) and all(
        isinstance(count, Integral | torch.SymInt) and not isinstance(count, bool)
        for count in value
    )
    if not counts:
        raise TypeError(f"{wanted} {shown(value)}")
    if len(value) != 2 or min(value) < 0:
        raise ValueError(f"{wanted} {shown(value)}")
    return value[0], value[1]


def check_edges(edge_index: Tensor) -> Tensor:
    """Return ``edge_index``, or say that it must be PyG's."""
    if edge_index.dim() != 2 or edge_index.shape[0] != 2 or edge_index.dtype != torch.int64:
        raise ValueError(
            "edge_index must be int64 of shape [2, edges], got "
            f"{edge_index.dtype} of shape {list(edge_index.shape)}"
        )
    return edge_index


def _size_of_features(x: Features) -> tuple[int, int]:
    """PyG's convention: one tensor is both ends, a pair is its own two ends."""
    if not isinstance(x, tuple):
        return x.shape[-2], x.shape[-2]
    if x[1] is None:
        raise ValueError("size must be (num_src, num_dst) when x is (x_src, None), got None")
    if x[1].dim() < 2:
        raise ValueError(
            f"x[1] must be node features [..., nodes, channels], got shape {list(x[1].shape)}"
        )
    return x[0].shape[-2], x[1].shape[-2]


def check_nodes(edge_index: Tensor, size: tuple[int, int]) -> None:
    if not has_values(edge_index) or edge_index.numel() == 0:
        return
    lowest, highest = int(edge_index.min()), edge_index.amax(dim=1).tolist()
    if lowest < 0 or highest[0] >= size[0] or highest[1] >= size[1]:
        raise ValueError(
            f"edge_index must name nodes below size={tuple(size)}, got from "
            f"{lowest} up to {tuple(highest)}"
        )


def has_values(tensor: Tensor) -> bool:
    """Whether there are numbers to be looked at: no meta tensor, nothing compiled or batched.

    A layer looks at raw edges on every device: a kernel would read beyond the features.
    """
    return not (
        torch.compiler.is_compiling()
        or tensor.device.type == "meta"
        or torch._C._functorch.is_batchedtensor(tensor)
    )


def edge_values(
    name: str, value: Tensor | None, what: str, graph: KNNGraph | Tensor, edge_index: Tensor
) -> Tensor:
    """Return what edges have beside their ends: given with raw edges, and known to a graph.

    Args:
        name: The argument: ``"cell"`` is an index, ``"offset"`` is ``[E, 2]``, others are ``[E]``.
        value: Its value.
        what: What it gives of every edge.
        graph: The graph, or raw edges.
        edge_index: The edges, ``[2, E]``.
    """
    if isinstance(graph, KNNGraph):
        if value is not None:
            raise ValueError(f"{name} must be None with a KNNGraph, which knows its own {name}s")
        return getattr(graph, name)
    edges = edge_index.shape[1]
    if value is None:
        raise ValueError(f"{name} must give {what} of each of the {edges} edges, got None")
    check = index_tensor if name == "cell" else float_tensor
    check(name, value, (edges, 2) if name == "offset" else (edges,))
    same_device(edge_index=edge_index, **{name: value})
    return value


def lowest(values: Tensor, dst: Tensor, num_dst: int) -> Tensor:
    """Return the lowest of the values ``[E]`` of every destination's edges, zero if it has none.

    As PyG's ``scatter`` does, but not in place, so that either may be batched by a transform.
    """
    start = values.new_zeros(num_dst)
    return start.scatter_reduce(0, dst, values, reduce="amin", include_self=False)


def check_channels(x: Tensor, channels: int, weight: Tensor) -> None:
    """Refuse features of another number of channels, device or dtype than the weights'."""
    if x.device != weight.device:
        raise ValueError(f"x is on {x.device} and the layer's weight on {weight.device}")
    if x.shape[-1] != channels:
        raise ValueError(
            f"x must have {channels} channels (its last dimension), got {x.shape[-1]} "
            f"(shape {list(x.shape)})"
        )
    floating("x", x)
    if x.dtype != weight.dtype and autocast_dtype(x, weight) is None:
        raise TypeError(f"x must be {weight.dtype} like the layer's weight, got {x.dtype}")


def wants_messages(layer: MessagePassing) -> bool:
    """Whether somebody looks at single messages: an explainer, or a hook on a step of propagate."""
    return bool(layer.explain) or any(
        hooks
        for name, hooks in vars(layer).items()
        if name.startswith(("_propagate_", "_message_", "_aggregate_")) and name.endswith("_hooks")
    )


def takes_messages(layer: MessagePassing, graph: KNNGraph | Tensor) -> bool:
    """Whether a layer computes by plain message passing.

    It does so where it was told to, where somebody looks at messages, and where edges of somebody's
    own, which may themselves be batched or differentiated, meet a function transform.
    """
    raw = not isinstance(graph, KNNGraph)
    return not layer.fused or wants_messages(layer) or (raw and transformed())
