"""The features and edges that a layer was called with, checked."""

from __future__ import annotations

from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing

from fovigraph._checks import shown
from fovigraph._tensors import float_tensor, if_channels_first, index_tensor, same_device
from fovigraph.graph import KernelMap, KNNGraph
from fovigraph.graph.kernel_map import row_ptr
from fovigraph.ops.knn_pool import reduce_rows
from fovigraph.ops.operands import autocast_dtype, floating
from fovigraph.ops.transforms import transformed

Features = Tensor | tuple[Tensor, Tensor | None]
"""Node features ``[*, N, C]``, or a pair of those of the sources and of the destinations."""


class Edges(NamedTuple):
    """The edges that a layer runs on, however it was called.

    Attributes:
        edge_index: ``[2, E]``, row 0 source, row 1 destination.
        size: ``(num_src, num_dst)``.
        graph: The graph that they are of, which knows more of them; ``None`` for raw edges.
        turned: Whether they lead from the graph's destinations to its sources.
    """

    edge_index: Tensor
    size: tuple[int, int]
    graph: KNNGraph | None = None
    turned: bool = False

    def attribute(self, name: str, value: Tensor | None, what: str) -> Tensor:
        """Return an attribute of every edge: given with raw edges, and known to a graph.

        Args:
            name: The argument: ``"cell"`` is an index, ``"offset"`` is ``[E, 2]``, others ``[E]``.
            value: Its value.
            what: What it gives of every edge, for errors.

        Raises:
            ValueError, TypeError: If it is given with a graph, or missing or of another form
                without.
        """
        if self.graph is not None:
            self._check_none(name, value)
            return getattr(self.graph, name)  # type: ignore[no-any-return]
        count = self.edge_index.shape[1]
        if value is None:
            raise ValueError(f"{name} must give {what} of each of the {count} edges, got None")
        check = index_tensor if name == "cell" else float_tensor
        check(name, value, (count, 2) if name == "offset" else (count,))
        same_device(edge_index=self.edge_index, **{name: value})
        return value

    def _check_none(self, name: str, value: Tensor | None) -> None:
        if value is not None:
            raise ValueError(f"{name} must be None with a KNNGraph, which knows its own {name}s")

    def cells(self, kernel_size: int, cell: Tensor | None) -> Tensor:
        """Return the cell of every edge in a kernel of a side, as :meth:`attribute` does."""
        if self.graph is not None:
            self._check_none("cell", cell)
            return self.graph.kernel_map(kernel_size).cell
        cell, count = self.attribute("cell", cell, "the kernel cell"), kernel_size**2
        low, high = map(int, cell.aminmax()) if has_values(cell) and cell.numel() else (0, 0)
        if low < 0 or high >= count:
            raise ValueError(
                f"cell must be from 0 to {count - 1} for kernel_size={kernel_size}, "
                f"got {low} to {high}"
            )
        return cell

    def kernel_map(self, kernel_size: int, cell: Tensor) -> KernelMap:
        """Return the kernel map of edges with these cells (:meth:`cells`)."""
        if self.graph is not None:
            kernel_map = self.graph.kernel_map(kernel_size)
            return kernel_map.transposed if self.turned else kernel_map
        num_src, num_dst = self.size
        return KernelMap.from_edges(
            self.edge_index, cell, num_src=num_src, num_dst=num_dst, num_cells=kernel_size**2
        )

    def bilinear_map(self, kernel_size: int, offset: Tensor) -> KernelMap:
        """Return the bilinear kernel map of edges at these offsets."""
        if self.graph is not None:
            return self.graph.kernel_map(kernel_size, "bilinear")
        num_src, num_dst = self.size
        return KernelMap.bilinear(
            self.edge_index, offset, kernel_size, num_src=num_src, num_dst=num_dst
        )

    def silence(self, out: Tensor) -> Tensor:
        """Return outputs ``[*, num_dst, C]`` with 0 where a masked graph has no edges."""
        return out if self.graph is None else self.graph.silence(out, turned=self.turned)

    def reduce(
        self, x: Tensor, reduce: str, weight: Tensor | None = None, *, backward: bool = False
    ) -> Tensor:
        """Reduce the features of every destination's neighbours, ``[*, num_dst, C]``.

        Args:
            x: Features of the sources, ``[*, num_src, C]``.
            reduce: As for :func:`fovigraph.ops.knn_pool`.
            weight: Factor of every edge's features in a sum, ``[E]``.
            backward: Whether to sort a graph's edges by source for a fast backward pass.
        """
        src, dst = self.edge_index
        if self.graph is None:
            order = dst.argsort(stable=True)
            weight = None if weight is None else weight[order]
            return reduce_rows(x, src[order], row_ptr(dst[order], self.size[1]), reduce, weight)
        if not backward:
            return reduce_rows(x, src, self.graph.ptr, reduce, weight)
        by_src = self.graph.kernel_map(1).by_src  # for which one cell will do
        return reduce_rows(x, src, self.graph.ptr, reduce, weight, by_src, self.graph.k)


def bipartite(
    x: Features,
    graph: KNNGraph | Tensor,
    size: tuple[int, int] | None,
    *,
    turned: bool = False,
) -> tuple[Tensor, Edges]:
    """Return the features of the sources, and the edges, of a layer's arguments.

    Args:
        x: Node features, or a pair of them.
        graph: A :class:`KNNGraph`, or a raw ``edge_index``.
        size: ``(num_src, num_dst)`` of raw edges.
        turned: Whether every edge leads the other way: features are those of destinations.

    Raises:
        TypeError, ValueError: If ``x``, ``graph`` or ``size`` do not fit one another.
    """
    source = source_features(x)
    size = None if size is None else node_counts("size", size)
    if isinstance(graph, KNNGraph):
        if size is not None and size != graph.size():
            raise ValueError(f"size must be {graph.size()} or None for {graph}, got {size}")
        index, size, known = graph.edge_index, graph.size(), graph
    elif isinstance(graph, Tensor):
        index, known = check_edges(graph), None
        if size is None:
            size = _size_of_features(x)
            size = size[::-1] if turned else size
        check_nodes(index, size)
    else:
        raise TypeError(
            f"graph must be a KNNGraph or an edge_index tensor, got {type(graph).__name__}"
        )
    ends = "destinations" if turned else "sources"
    if turned:
        index, size = index.flip(0), (size[1], size[0])
    if source.shape[-2] != size[0]:
        raise ValueError(
            f"x must have as many nodes as the graph has {ends}, {size[0]}, "
            f"got {source.shape[-2]} (shape {list(source.shape)})"
            f"{if_channels_first(source.shape, size[0])}"
        )
    if source.device != index.device:
        raise ValueError(f"x is on {source.device} and the graph on {index.device}")
    return source, Edges(index, size, known, turned)


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


_HOOKS = tuple(
    f"_{step}_forward_{when}"
    for step in ("propagate", "message", "aggregate", "message_and_aggregate")
    for when in ("pre_hooks", "hooks")
)


def wants_messages(layer: MessagePassing) -> bool:
    """Whether an explainer, or a hook on a step of ``propagate``, looks at single messages."""
    return bool(layer.explain) or any(getattr(layer, name) for name in _HOOKS)


def takes_messages(layer: MessagePassing, edges: Edges) -> bool:
    """Whether a layer computes by plain message passing.

    It does so where ``fused`` is False, where an explainer or a hook looks at messages, and where
    raw edges, which may themselves be batched or differentiated, meet a function transform.
    """
    raw = edges.graph is None
    return not layer.fused or wants_messages(layer) or (raw and transformed())
