"""Attention among the nodes of a level: all of them, or those that are near."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import softmax

from fovigraph._checks import flag, fraction, instance, positive_int, whole_number
from fovigraph.graph import KNNGraph
from fovigraph.nn.bipartite import wants_messages
from fovigraph.nn.limits import check_weights


class NodeAttention(MessagePassing):
    r"""Multi-head self-attention of a level's nodes, to all or to each one's neighbours.

    .. math::
        \mathbf{y}_i = \mathbf{W}_o \sum_{j \in \mathcal{N}(i)}
        \operatorname{softmax}_j \Big( \frac{\mathbf{q}_i \cdot \mathbf{k}_j}{\sqrt{h}} \Big)
        \, \mathbf{v}_j

    in every head of h channels, with queries, keys and values linear in the tokens. Without a graph
    :math:`\mathcal{N}(i)` is every token; with one, the sources of i's edges. Tokens that are no
    nodes, such as a class token, come first; they attend to all, and all attend to them.

    ``message`` and the sum are the definition; otherwise (``fused``) it is torch's
    ``scaled_dot_product_attention``, with a mask if there is a graph.

    Args:
        channels: Channels D of the tokens.
        heads: Number of heads, which must divide D.
        dropout: Probability that an attention weight is dropped in training.
        bias: Whether the linear maps have biases.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.

    Example:
        >>> import torch, fovigraph as fg
        >>> array = fg.SensorArray.matched(16)
        >>> near = fg.knn_graph(array, array, k=9)
        >>> fg.nn.NodeAttention(32, heads=4)(torch.rand(2, len(array), 32), near).shape
        torch.Size([2, 230, 32])
    """

    def __init__(self, channels: int, heads: int, dropout: float = 0.0, bias: bool = False):
        super().__init__(aggr="sum", node_dim=-3)
        self.channels, self.heads = positive_int("channels", channels), positive_int("heads", heads)
        if channels % heads:
            raise ValueError(f"heads must divide channels={channels}, got {heads}")
        check_weights(channels=channels, qkv=3 * channels)
        self.dropout = fraction("dropout", dropout)
        self.qkv = nn.Linear(channels, 3 * channels, bias=flag("bias", bias))
        self.project = nn.Linear(channels, channels, bias=bias)
        self.fused = True

    def forward(
        self,
        x: Float[Tensor, "*batch T D"],
        graph: KNNGraph | None = None,
        *,
        extra: int = 0,
        positions: nn.Module | None = None,
    ) -> Float[Tensor, "*batch T D"]:
        """Attend.

        Args:
            x: Tokens ``[*, T, D]``: ``extra`` of them that are no nodes, then the nodes.
            graph: Edges from every node to those that attend to it, at one level; ``None``: all.
            extra: How many tokens at the front are no nodes.
            positions: What turns queries and keys, such as
                :class:`~fovigraph.nn.RotaryPositions`; ``None``: nothing.

        Raises:
            ValueError, TypeError: If the tokens do not fit the layer or the graph.
        """
        if x.dim() < 2 or x.shape[-1] != self.channels:
            raise ValueError(
                f"x must be [..., tokens, {self.channels} channels], got shape {list(x.shape)}"
            )
        tokens = x.shape[-2]
        if graph is not None:
            _check_graph(graph, tokens, whole_number("extra", extra))
        heads = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        query, key, value = heads.unbind(-3)  # [*, T, heads, h]
        if positions is not None:
            query, key = positions(query), positions(key)
        if not self.fused or wants_messages(self):
            edges = _edges(graph, tokens, extra, x.device)
            out = self.propagate(edges, query=query, key=key, value=value, size=(tokens, tokens))
        else:
            mask = None if graph is None else _mask(graph, tokens, extra, x.device)
            query, key, value = (part.transpose(-3, -2) for part in (query, key, value))
            dropout = self.dropout if self.training else 0.0
            out = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, dropout_p=dropout
            ).transpose(-3, -2)
        return self.project(out.flatten(-2))  # type: ignore[no-any-return]

    def message(
        self,
        query_i: Tensor,
        key_j: Tensor,
        value_j: Tensor,
        index: Tensor,
        size_i: int | None,
    ) -> Tensor:
        score = (query_i * key_j).sum(-1) / query_i.shape[-1] ** 0.5  # [*, E, heads]
        weight = softmax(score, index, num_nodes=size_i, dim=-2)
        weight = functional.dropout(weight, self.dropout, self.training)
        return weight[..., None] * value_j

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.channels}, heads={self.heads})"


def _check_graph(graph: Any, tokens: int, extra: int) -> None:
    instance("graph", graph, KNNGraph)
    if graph.num_src != graph.num_dst or graph.num_dst + extra != tokens:
        raise ValueError(
            f"graph must join {tokens - extra} nodes (x has {tokens} tokens, extra={extra}) to "
            f"themselves, got {graph.num_src} to {graph.num_dst} nodes"
        )


def _mask(graph: KNNGraph, tokens: int, extra: int, device: torch.device) -> Bool[Tensor, "T T"]:
    """Return which token (rows) attends to which."""
    mask = torch.zeros(tokens, tokens, dtype=torch.bool, device=device)
    mask[:extra] = True
    mask[:, :extra] = True
    src, dst = graph.edge_index + extra
    return mask.index_put((dst, src), torch.ones((), dtype=torch.bool, device=device))


def _edges(
    graph: KNNGraph | None, tokens: int, extra: int, device: torch.device
) -> Int64[Tensor, "2 E"]:
    """Return the edges from every token to those that attend to it."""
    if graph is None:
        mask = torch.ones(tokens, tokens, dtype=torch.bool, device=device)
    else:
        mask = _mask(graph, tokens, extra, device)
    dst, src = mask.nonzero().T
    return torch.stack((src, dst))
