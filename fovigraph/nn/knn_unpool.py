"""Up the pyramid: features of a coarse level brought back to a finer one."""

from __future__ import annotations

from jaxtyping import Float, Int64
from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import scatter

from fovigraph import ops
from fovigraph._checks import instance, positive_float, positive_int
from fovigraph.graph import KernelMap, KNNGraph
from fovigraph.nn.bipartite import (
    Features,
    bipartite,
    lowest,
    takes_messages,
)
from fovigraph.nn.knn_conv import KNNConv, _KernelConv
from fovigraph.ops.operands import floating

NEAREST = 1e-6
"""Distance in millimetres below which a node is as good as at its neighbour's place."""


class KNNUnpool(MessagePassing):
    r"""Interpolate features to a finer level (PointNet++, Qi et al. 2017, eq. 2).

    .. math::
        \mathbf{y}_o = \frac{\sum_p d(o, p)^{-\text{power}}\,\mathbf{x}_p}
                            {\sum_p d(o, p)^{-\text{power}}}

    over the neighbours *p* of *o* on the coarser level, at the distance *d*. A node at a
    neighbour's place gets that neighbour's features. The graph is ``pyramid.up(level, k)``, or any
    from the coarse level to the fine one. The layer holds no geometry and no weights; ``message``
    and the sum are the definition, :func:`fovigraph.ops.knn_pool` computes the same faster.

    Args:
        power: Of the inverse distance.

    Example:
        >>> import torch, fovigraph as fg
        >>> pyramid = fg.GraphPyramid(fg.SensorArray.matched(32), [fg.Step("pool", 9, stride=2)])
        >>> fg.nn.KNNUnpool()(torch.rand(8, 230, 16), pyramid.up("pool1", k=3)).shape
        torch.Size([8, 964, 16])
    """

    def __init__(self, power: float = 2.0):
        super().__init__(aggr="sum", node_dim=-2)
        self.power = positive_float("power", power)
        self.fused = True

    def forward(
        self,
        x: Features,
        graph: KNNGraph | Tensor,
        distance: Float[Tensor, " E"] | None = None,
        size: tuple[int, int] | None = None,
    ) -> Float[Tensor, "*batch M C"]:
        """Interpolate node features.

        Args:
            x: Features of the coarse level, ``[*, num_src, C]``; or a pair ``(x_src, x_dst)``, of
                which only the first is used.
            graph: A :class:`~fovigraph.graph.KNNGraph` from the coarse level to the fine one; or
                PyG's ``edge_index``, ``[2, E]``, in any order.
            distance: With an ``edge_index``, the length of every edge, ``[E]``.
            size: With an ``edge_index``, ``(num_src, num_dst)``.

        Returns:
            ``[*, num_dst, C]``; zero where a node has no neighbours.

        Raises:
            ValueError, TypeError: If the arguments do not fit one another.
        """
        source, edges = bipartite(x, graph, size)
        floating("x", source)
        distance = edges.attribute("distance", distance, "the length")
        weight = self._edge_weight(distance, edges.edge_index, edges.size[1]).to(source.dtype)
        if takes_messages(self, edges) or weight.requires_grad:
            return self.propagate(
                edges.edge_index, x=(source, None), edge_weight=weight, size=edges.size
            )
        return edges.reduce(source, "sum", weight)

    def message(self, x_j: Tensor, edge_weight: Tensor) -> Tensor:
        return x_j * edge_weight[:, None]

    def _edge_weight(self, distance: Tensor, edge_index: Tensor, num_dst: int) -> Tensor:
        dst, length = edge_index[1], distance.clamp(min=NEAREST)
        # As a multiple of the nearest neighbour's, so that no power overflows.
        shortest = lowest(length.detach(), dst, num_dst)
        weight = (length / shortest[dst]) ** -self.power
        return weight / scatter(weight, dst, dim_size=num_dst, reduce="sum")[dst]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(power={self.power:g})"


class KNNConvTranspose(_KernelConv):
    r"""The kNN convolution turned round, from the coarse level back to the fine one.

    .. math::
        \mathbf{y}_p = \mathbf{b} + \sum_{o : p \in \mathcal{N}(o)}
            \mathbf{x}_o\,\mathbf{W}_{c(o, p)}^\top

    the adjoint of :class:`KNNConv` over the same graph: the same kernel map with every edge turned
    round, as in the convolution's input gradient. The weight is shaped like that of the convolution
    it transposes, so one parameter can serve both (:meth:`tied`).

    Args:
        in_channels: Channels O of the coarse level.
        out_channels: Channels C of the fine level.
        kernel_size: Side s of the reference kernel; the weight is ``[s², C, O]``.
        bias: Whether to add a learnt bias.

    Example:
        >>> import torch, fovigraph as fg
        >>> retina = fg.SensorArray.matched(32)
        >>> graph = fg.knn_graph(retina, retina.strided(2), k=49)
        >>> conv = fg.nn.KNNConv(3, 128, kernel_size=14)
        >>> y = conv(torch.rand(8, len(retina), 3), graph)
        >>> fg.nn.KNNConvTranspose.tied(conv)(y, graph).shape
        torch.Size([8, 964, 3])
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, bias: bool = True):
        super().__init__(in_channels, kernel_size)
        self.out_channels = positive_int("out_channels", out_channels)
        self._make_parameters(bias, out_channels=self.out_channels, in_channels=self.in_channels)

    @classmethod
    def tied(cls, conv: KNNConv, bias: bool = True) -> KNNConvTranspose:
        """Return the transpose of a convolution, with the very same weight parameter.

        Raises:
            TypeError: If ``conv`` is not a :class:`KNNConv`.
            ValueError: If the convolution interpolates between cells.
        """
        instance("conv", conv, KNNConv)
        if conv.interpolation != "nearest":
            raise ValueError(f"conv must have interpolation='nearest', got {conv}")
        layer = cls(conv.out_channels, conv.in_channels, conv.kernel_size, bias)
        layer.weight = conv.weight
        return layer

    @property
    def fan_in(self) -> int:
        return self.in_channels * self.num_cells

    def forward(
        self,
        x: Features,
        graph: KNNGraph | Tensor,
        cell: Int64[Tensor, " E"] | None = None,
        size: tuple[int, int] | None = None,
    ) -> Float[Tensor, "*batch M C"]:
        """Bring features of the coarse level back to the fine one.

        Args:
            x: Features of the convolution's destinations, ``[*, num_dst, in_channels]``.
            graph: The convolution's :class:`~fovigraph.graph.KNNGraph`, from fine to coarse; or its
                ``edge_index``, ``[2, E]``, in any order.
            cell: With an ``edge_index``, the kernel cell of every edge, ``[E]``.
            size: With an ``edge_index``, ``(num_src, num_dst)`` of the convolution.

        Returns:
            Features of its sources, ``[*, num_src, out_channels]``; the bias, where no edge leads.

        Raises:
            ValueError, TypeError: If the arguments do not fit the layer or one another.
        """
        source, edges = bipartite(x, graph, size, turned=True)
        return self._convolve(source, edges, cell)

    def message(self, x_j: Tensor, cell: Tensor) -> Tensor:
        return (x_j.unsqueeze(-2) @ self._weight_of(cell, x_j).transpose(1, 2)).squeeze(-2)

    def _fused(self, x: Tensor, kernel_map: KernelMap) -> Tensor:
        weight = self.weight.transpose(1, 2)
        return ops.knn_conv(x, weight, kernel_map, self.bias, self.relu)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.in_channels}, {self.out_channels}, "
            f"kernel_size={self.kernel_size}{self._options()})"
        )
