"""Pooling over the k nearest neighbours."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64, Num
from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.aggr import Aggregation
from torch_geometric.utils import scatter

from fovigraph._checks import one_of, positive_float
from fovigraph.graph import KNNGraph
from fovigraph.graph.step import POOL_MODES
from fovigraph.nn.bipartite import (
    Features,
    bipartite,
    lowest,
    takes_messages,
)
from fovigraph.ops.knn_pool import check_poolable


class FirstMaxAggregation(Aggregation):
    """The maximum, whose gradient goes to the first of equal neighbours, in the order of the edges.

    A maximum of PyG's divides it among them on a CPU, and gives it to any of them on a GPU.
    """

    def forward(
        self,
        x: Num[Tensor, "*batch E C"],
        index: Int64[Tensor, " E"] | None = None,
        ptr: Tensor | None = None,
        dim_size: int | None = None,
        dim: int = -2,
    ) -> Num[Tensor, "*batch M C"]:
        """Return the maximum of every destination's edges, zero if it has none."""
        assert index is not None and dim_size is not None and dim == -2
        dst, count = index[:, None].expand_as(x), x.shape[-2]
        zeros = x.detach().new_zeros(*x.shape[:-2], dim_size, x.shape[-1])
        greatest = zeros.scatter_reduce(-2, dst, x.detach(), "amax", include_self=False)
        edge = torch.arange(count, device=x.device)[:, None]
        wins = (x == greatest.gather(-2, dst)) | x.isnan()
        none = torch.full_like(zeros, count, dtype=torch.int64)
        first = none.scatter_reduce(-2, dst, torch.where(wins, edge, count), "amin")
        nothing = x.new_zeros(*x.shape[:-2], 1, x.shape[-1])
        return torch.cat((x, nothing), dim=-2).gather(-2, first)


class KNNPool(MessagePassing):
    r"""Reduce the features of the real neighbours of every node.

    ``"max"``, ``"mean"`` and ``"sum"`` are what they say; ``"gaussian"`` is the mean weighted by
    :math:`\exp(-q^2 / 2\sigma^2)`, with *q* the distance scaled to [0, 1] within the neighbourhood.
    A neighbourhood of padding alone gives zero in every mode. The gradient of a maximum goes to one
    neighbour: of equal ones to the first in the order of the edges.

    The layer holds no geometry and no weights. ``message`` and the aggregation are the definition;
    :func:`fovigraph.ops.knn_pool` computes the same faster.

    Args:
        mode: ``"max"``, ``"mean"``, ``"sum"`` or ``"gaussian"``.
        sigma: σ of the gaussian, as a fraction of the neighbourhood's radius.
    """

    def __init__(self, mode: str = "max", sigma: float = 0.5):
        mode = one_of("mode", mode, POOL_MODES)
        reduce = "sum" if mode == "gaussian" else mode
        super().__init__(aggr=FirstMaxAggregation() if mode == "max" else reduce, node_dim=-2)
        self.mode, self.reduce = mode, reduce
        self.sigma = positive_float("sigma", sigma)
        self.fused = True

    def forward(
        self,
        x: Features,
        graph: KNNGraph | Tensor,
        relative_distance: Float[Tensor, " E"] | None = None,
        size: tuple[int, int] | None = None,
    ) -> Num[Tensor, "*batch M C"]:
        """Pool node features.

        Args:
            x: Features ``[*, num_src, C]`` with any leading batch dimensions; or a pair
                ``(x_src, x_dst)``, of which only the first is used.
            graph: A :class:`~fovigraph.graph.KNNGraph`; or PyG's ``edge_index``, ``[2, E]``.
            relative_distance: With an ``edge_index`` and mode ``"gaussian"``, the distance of every
                edge scaled to [0, 1] within its neighbourhood, ``[E]``.
            size: With an ``edge_index``, ``(num_src, num_dst)``.

        Returns:
            ``[*, num_dst, C]``.

        Raises:
            ValueError, TypeError: If the arguments do not fit one another.
        """
        source, edges = bipartite(x, graph, size)
        check_poolable(source, self.mode)
        weight = None
        if self.mode == "gaussian" or relative_distance is not None:
            name = "relative_distance"
            relative_distance = edges.attribute(name, relative_distance, "the distance")
        if self.mode == "gaussian":
            assert relative_distance is not None
            most = math.inf if edges.graph is None else 1.0
            weight = self._edge_weight(relative_distance, edges.edge_index, edges.size[1], most)
            weight = weight.to(source.dtype)
        learns_distance = weight is not None and weight.requires_grad
        if takes_messages(self, edges) or learns_distance:
            return self.propagate(
                edges.edge_index, x=(source, None), edge_weight=weight, size=edges.size
            )
        return edges.reduce(source, self.reduce, weight, backward=True)

    def message(self, x_j: Tensor, edge_weight: Tensor | None) -> Tensor:
        return x_j if edge_weight is None else x_j * edge_weight[:, None]

    def _edge_weight(
        self, distance: Tensor, edge_index: Tensor, num_dst: int, most: float
    ) -> Tensor:
        """Return the weights of edges of these distances, none of which exceeds ``most``."""
        dst, limits = edge_index[1], torch.finfo(distance.dtype)
        sigma = max(self.sigma, 16 * limits.tiny)  # so that quotients are finite
        square = (distance / sigma).square()
        far = sigma * math.sqrt(-2 * math.log(limits.tiny / limits.eps))
        if most > far:  # where even the nearest weight would be lost, all are relative to that one
            nearest = lowest(distance.detach(), dst, num_dst)
            nearest = torch.where(nearest > far, nearest, 0)[dst]
            square = (distance - nearest) / sigma * ((distance + nearest) / sigma)
        weight = (-0.5 * square).exp()
        return weight / scatter(weight, dst, dim_size=num_dst, reduce="sum")[dst]

    def __repr__(self) -> str:
        sigma = f", sigma={self.sigma:g}" if self.mode == "gaussian" else ""
        return f"{type(self).__name__}({self.mode!r}{sigma})"
