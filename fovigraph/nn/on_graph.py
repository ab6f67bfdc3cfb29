"""PyG's operators on features ``[batch, nodes, channels]``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch_geometric.nn import conv

from fovigraph._checks import instance, one_of, shown, whole_number
from fovigraph._tensors import index_tensor
from fovigraph.graph import KNNGraph
from fovigraph.nn.bipartite import bipartite, check_nodes, node_counts
from fovigraph.nn.limits import MAX_WEIGHTS
from fovigraph.ops.operands import autocast_dtype

LAYOUTS = ("disjoint", "static")

STATIC: tuple[type[nn.Module], ...] = (
    *(conv.ChebConv, conv.EdgeConv, conv.GCNConv, conv.GINConv, conv.GINEConv, conv.GraphConv),
    *(conv.LEConv, conv.MFConv, conv.SAGEConv, conv.SGConv, conv.TAGConv),
)
"""PyG's operators that were seen to compute the same on ``[B, N, C]`` as on a disjoint batch."""


def disjoint_edges(edge_index: Tensor, batch: int, size: tuple[int, int]) -> Tensor:
    """Return the edges of ``batch`` disjoint copies of a graph, ``[2, batch · E]``.

    Args:
        edge_index: Of one copy, ``[2, E]``.
        batch: Number of copies.
        size: Sources and destinations of one copy.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.
    """
    edges, size = (
        index_tensor("edge_index", edge_index, (2, "E")).shape[1],
        node_counts("size", size),
    )
    check_nodes(edge_index, size)
    most = MAX_WEIGHTS // max(1, edges)
    return _copies(edge_index, whole_number("batch", batch, most=most), size)


def _copies(edge_index: Tensor, batch: int, size: tuple[int, int]) -> Tensor:
    copies = torch.arange(batch, device=edge_index.device)
    shift = copies * edge_index.new_tensor(size)[:, None]
    return (edge_index[:, None] + shift[:, :, None]).flatten(1)


class OnGraph(nn.Module):
    """Runs an operator of PyG's on features ``[*, N, C]`` of the nodes of one graph.

    Most operators take the features of one graph, ``[N, C]``; a batch of images is then one graph
    of disjoint copies (layout ``"disjoint"``), which is put together and taken apart here. Some
    also take ``[B, N, C]`` as it is (layout ``"static"``), which needs no copies of the edges;
    ``docs/pyg.md`` has the table.

    Args:
        operator: The operator.
        layout: ``"disjoint"`` or ``"static"``.

    Raises:
        TypeError: If the operator is not a module.
        ValueError: If the layout is unknown, or static and the operator is not one of those that
            support it.

    Example:
        >>> import torch, fovigraph as fg
        >>> from torch_geometric.nn import GATv2Conv
        >>> pyramid = fg.GraphPyramid(fg.SensorArray.matched(32), [fg.Step("conv", 49, stride=2)])
        >>> lateral = pyramid.lateral("conv1", k=8)
        >>> attention = fg.nn.OnGraph(GATv2Conv(16, 8, heads=2, edge_dim=3))
        >>> attention(torch.rand(4, 230, 16), lateral, edge={"edge_attr": lateral.edge_attr}).shape
        torch.Size([4, 230, 16])
    """

    def __init__(self, operator: nn.Module, layout: str = "disjoint"):
        super().__init__()
        self.operator = instance("operator", operator, nn.Module)
        self.layout = one_of("layout", layout, LAYOUTS)
        if layout == "static" and not isinstance(operator, STATIC):
            raise ValueError(
                f"layout must be 'disjoint' for {type(operator).__name__}, which does not support "
                "a static batch [B, N, C], got 'static'"
            )

    def forward(
        self,
        x: Shaped[Tensor, "*batch N C"],
        graph: KNNGraph | Tensor,
        *,
        edge: Mapping[str, Tensor] | None = None,
        node: Mapping[str, Tensor] | None = None,
        **options: Any,
    ) -> Any:
        """Apply the operator to every graph of a batch.

        Args:
            x: Features ``[*, N, C]`` with any leading batch dimensions.
            graph: A graph within one level (:meth:`~fovigraph.GraphPyramid.lateral`), or its
                ``edge_index``, ``[2, E]``.
            edge: What the operator takes for every edge, by its name there, each ``[E, ...]``:
                ``{"edge_attr": graph.edge_attr}``.
            node: What it takes for every node besides ``x``, each ``[N, ...]``: ``{"pos": …}``.
            **options: Further arguments of the operator, passed on as they are.

        Returns:
            ``[*, N, C']``.

        Raises:
            ValueError, TypeError: If the arguments do not fit one another, or the graph leads from
                one level to another.
        """
        instance("x", x, Tensor, allowed="a torch.Tensor [*, N, C]")
        _, given = bipartite(x, graph, None)
        edge_index, size = given.edge_index, given.size
        if size[0] != size[1]:
            raise ValueError(
                f"graph must stay within one level, got one from {size[0]} to {size[1]} nodes"
            )
        self._check_dtype(x)
        edge = _of_each("edge", edge, edge_index.shape[1])
        node = _of_each("node", node, size[0])
        if self.layout == "static" or x.dim() == 2:
            return self.operator(x=x, edge_index=edge_index, **edge, **node, **options)
        flat = x.reshape(-1, *x.shape[-2:])
        copies = len(flat)
        every = {
            name: value.repeat(copies, *[1] * (value.dim() - 1))
            for name, value in {**edge, **node}.items()
        }
        edges = _copies(edge_index, copies, size)
        out = self.operator(x=flat.flatten(0, 1), edge_index=edges, **every, **options)
        return out.view(*x.shape[:-1], *out.shape[1:])

    def _check_dtype(self, x: Tensor) -> None:
        """Refuse features of another dtype or device than the operator's parameters."""
        weight = next((p for p in self.operator.parameters() if p.is_floating_point()), None)
        if weight is None:
            return
        if x.device != weight.device:
            raise ValueError(f"x is on {x.device} and the operator's parameters on {weight.device}")
        if x.dtype != weight.dtype and autocast_dtype(x, weight) is None:
            raise TypeError(
                f"x must be {weight.dtype} like the operator's parameters, got {x.dtype}"
            )

    def extra_repr(self) -> str:
        return f"layout={self.layout!r}"


def _of_each(kind: str, given: Mapping[str, Tensor] | None, count: int) -> dict[str, Tensor]:
    """Return tensors by name, or say that each must have one entry for each edge or node."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f"{kind} must be a mapping from names to tensors, got {shown(given)}")
    for name, values in given.items():
        instance(f"the names in {kind}", name, str)
        if not isinstance(values, Tensor):
            raise TypeError(f"{kind}[{name!r}] must be a torch.Tensor, got {shown(values)}")
        if values.dim() == 0 or len(values) != count:
            raise ValueError(
                f"{kind}[{name!r}] must have one entry for each of the {count} {kind}s, "
                f"got shape {list(values.shape)}"
            )
    return dict(given)
