"""Attention among tokens: among all of them, or along the edges of a graph."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import softmax

from fovigraph._checks import flag, fraction, instance, positive_int, whole_number
from fovigraph.graph import KNNGraph
from fovigraph.nn.bipartite import wants_messages
from fovigraph.nn.limits import check_weights


class GraphAttention(MessagePassing):
    r"""Multi-head self-attention (Vaswani et al. 2017), which a graph may restrict.

    .. math::
        \mathbf{y}_i = \mathbf{b} + \mathbf{W}_o \sum_{j \in \mathcal{N}(i)}
        \operatorname{softmax}_j \left( \frac{\mathbf{q}_i^\top \mathbf{k}_j}{\sqrt h} \right)
        \mathbf{v}_j

    in every head of width h. Without a graph, :math:`\mathcal{N}(i)` are all tokens. With a graph
    from the nodes to themselves they are the sources of the edges to node i and the tokens before
    the nodes, such as a class token, which themselves attend to all.

    Args:
        channels: Channels of the tokens.
        heads: Number of heads; must divide ``channels``.
        bias: Whether the projections have a bias.
        dropout: Probability that a weight of attention is zero, in training.

    Attributes:
        fused: Whether to compute by one call of ``scaled_dot_product_attention`` (with a mask of
            the edges); otherwise by message passing, which defines what is computed.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.

    Example:
        >>> import torch, fovigraph as fg
        >>> patches = fg.SensorArray.matched(8)
        >>> graph = fg.knn_graph(patches, patches, k=9)
        >>> layer = fg.nn.GraphAttention(16, heads=2)
        >>> tokens = torch.rand(4, 1 + len(patches), 16)  # a class token, then the patches
        >>> layer(tokens, graph).shape == tokens.shape
        True
    """

    def __init__(self, channels: int, heads: int = 1, *, bias: bool = False, dropout: float = 0.0):
        super().__init__(aggr="sum", node_dim=-2)
        self.channels, self.heads = positive_int("channels", channels), check_heads(heads, channels)
        self.dropout = fraction("dropout", dropout)
        check_weights(channels=self.channels, qkv=3 * self.channels)
        self.qkv = nn.Linear(self.channels, 3 * self.channels, bias=flag("bias", bias))
        self.proj = nn.Linear(self.channels, self.channels, bias=bias)
        self.fused = True
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew: truncated normal with a deviation of 0.02."""
        super().reset_parameters()
        for layer in (self.qkv, self.proj):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(
        self,
        x: Float[Tensor, "*batch T C"],
        graph: KNNGraph | None = None,
        positions: nn.Module | None = None,
    ) -> Float[Tensor, "*batch T C"]:
        """Attend.

        Args:
            x: Tokens ``[*, T, channels]``; with a graph, those of its nodes are the last.
            graph: Edges between the nodes that attend to one another; ``None``: all tokens do.
            positions: What queries and keys ``[*, heads, T, h]`` pass before they meet, such as
                :class:`~fovigraph.nn.Rotary`.

        Returns:
            ``[*, T, channels]``.

        Raises:
            ValueError: If the tokens have other channels, or are fewer than the graph's nodes.
        """
        if x.ndim < 2 or x.shape[-1] != self.channels:
            raise ValueError(f"x must have shape [*, T, {self.channels}], got {list(x.shape)}")
        edges = None if graph is None else token_edges(graph, x.shape[-2])
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-3, -2)
        q, k, v = parts.unbind(0)
        if positions is not None:
            q, k = positions(q), positions(k)
        attend = self._fused if self.fused and not wants_messages(self) else self._by_messages
        return self.proj(attend(q, k, v, edges).transpose(-3, -2).flatten(-2))  # type: ignore[no-any-return]

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, edges: Tensor | None) -> Tensor:
        mask = None
        if edges is not None:
            tokens = q.shape[-2]
            flat = torch.zeros(tokens * tokens, dtype=torch.bool, device=q.device)
            mask = flat.index_fill(0, edges[1] * tokens + edges[0], True).view(tokens, tokens)
        dropout = self.dropout if self.training else 0.0
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)

    def _by_messages(self, q: Tensor, k: Tensor, v: Tensor, edges: Tensor | None) -> Tensor:
        tokens = q.shape[-2]
        if edges is None:
            every = torch.arange(tokens, device=q.device)
            edges = torch.cartesian_prod(every, every).T
        return self.propagate(edges, q=q, k=k, v=v, size=(tokens, tokens))  # type: ignore[no-any-return]

    def message(
        self,
        q_i: Tensor,
        k_j: Tensor,
        v_j: Tensor,
        index: Tensor,
        ptr: Tensor | None,
        size_i: int | None,
    ) -> Tensor:
        """The value of a source, weighted by how well its key fits the destination's query."""
        fit = (q_i * k_j).sum(-1, keepdim=True) / math.sqrt(q_i.shape[-1])
        weight = softmax(fit, index, ptr, size_i, dim=-2)
        return v_j * functional.dropout(weight, self.dropout, self.training)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.channels}, heads={self.heads})"


def check_heads(heads: int, channels: int, name: str = "heads") -> int:
    """Return the number of heads, or say that it must divide the channels."""
    heads = positive_int(name, heads)
    if channels % heads:
        divisors = [n for n in range(1, min(channels, 64) + 1) if channels % n == 0]
        raise ValueError(
            f"{name} must divide the {channels} channels (one of {divisors}), got {heads}"
        )
    return heads


def token_edges(graph: KNNGraph, tokens: int) -> Int64[Tensor, "2 E"]:
    """Return the edges of a graph among tokens of which its nodes are the last.

    Tokens before the nodes have edges from and to all tokens.

    Raises:
        ValueError, TypeError: If the graph does not lead from an array to itself, or has more nodes
            than there are tokens.
    """
    if instance("graph", graph, KNNGraph).num_src != graph.num_dst:
        raise ValueError(f"graph must lead from an array to itself, got {graph}")
    before = whole_number("number of tokens", tokens, graph.num_src) - graph.num_src
    device = graph.edge_index.device
    every, special = torch.arange(tokens, device=device), torch.arange(before, device=device)
    nodes = torch.arange(before, tokens, device=device)
    into = torch.cartesian_prod(every, special).T
    out_of = torch.cartesian_prod(special, nodes).T
    return torch.cat((graph.edge_index + before, into, out_of), dim=1)
