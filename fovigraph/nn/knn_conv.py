"""kNN convolution: message passing whose weight is looked up by relative position."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import MessagePassing

from fovigraph import ops
from fovigraph._checks import flag, instance, one_of, positive_int
from fovigraph.graph import KernelMap, KNNGraph
from fovigraph.graph.kernel_map import bilinear_cells, check_kernel_size
from fovigraph.graph.knn_graph import INTERPOLATIONS
from fovigraph.nn.bipartite import (
    Edges,
    Features,
    bipartite,
    check_channels,
    takes_messages,
)
from fovigraph.nn.limits import check_weights
from fovigraph.ops.knn_conv_shared import knn_conv_shared
from fovigraph.ops.operands import autocast_dtype


class _KernelConv(MessagePassing):
    """What full and depthwise convolution share: the call, and the choice of path."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, in_channels: int, kernel_size: int):
        super().__init__(aggr="sum", node_dim=-2)
        self.in_channels = positive_int("in_channels", in_channels)
        self.kernel_size = check_kernel_size(kernel_size)
        self.fused = True
        self.relu = False

    def _make_parameters(self, bias: bool, **matrix: int) -> None:
        """Make the weight, for every cell a matrix of these sizes, and the bias; draw values."""
        has_bias = flag("bias", bias)
        check_weights(cells=self.num_cells, **matrix)
        self.weight = nn.Parameter(torch.empty(self.num_cells, *matrix.values()))
        self.register_parameter(
            "bias", nn.Parameter(torch.empty(self.out_channels)) if has_bias else None
        )
        self.reset_parameters()

    @property
    def num_cells(self) -> int:
        """Cells of the reference kernel, ``kernel_size²``."""
        return self.kernel_size**2

    def reset_parameters(self) -> None:
        """Draw the weights anew: He normal, with the fan-in of one whole reference kernel."""
        super().reset_parameters()
        nn.init.normal_(self.weight, std=math.sqrt(2 / self.fan_in))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @property
    def fan_in(self) -> int:
        """Weights that reach one output channel."""
        raise NotImplementedError

    def forward(
        self,
        x: Features,
        graph: KNNGraph | Tensor,
        cell: Int64[Tensor, " E"] | None = None,
        size: tuple[int, int] | None = None,
    ) -> Float[Tensor, "*batch M D"]:
        """Convolve node features.

        Args:
            x: Features ``[*, num_src, in_channels]`` with any leading batch dimensions; or a pair
                ``(x_src, x_dst)``, of which only the first is used.
            graph: A :class:`~fovigraph.graph.KNNGraph`; or PyG's ``edge_index``, ``[2, E]``, in any
                order.
            cell: With an ``edge_index``, the kernel cell of every edge, ``[E]``.
            size: With an ``edge_index``, ``(num_src, num_dst)``.

        Returns:
            ``[*, num_dst, out_channels]``. A destination without real neighbours gets the bias,
            or 0 in a graph between masked arrays.

        Raises:
            ValueError, TypeError: If the arguments do not fit the layer or one another.
        """
        source, edges = bipartite(x, graph, size)
        return self._convolve(source, edges, cell)

    def _convolve(self, source: Tensor, edges: Edges, cell: Tensor | None) -> Tensor:
        check_channels(source, self.in_channels, self.weight)
        cell = edges.cells(self.kernel_size, cell)
        if takes_messages(self, edges):
            return self._by_messages(source, edges, cell, None)
        return edges.silence(self._fused(source, edges.kernel_map(self.kernel_size, cell)))

    def _by_messages(self, x: Tensor, edges: Edges, cell: Tensor, share: Tensor | None) -> Tensor:
        """Convolve by plain message passing, in the type that ``torch.autocast`` says."""
        dtype = autocast_dtype(x, self.weight, self.bias)
        x = x if dtype is None else x.to(dtype)
        share = None if share is None else share.to(x.dtype)
        out = self.propagate(edges.edge_index, x=(x, None), cell=cell, share=share, size=edges.size)
        return edges.silence(self._finish(out))

    def _weight_of(self, cell: Tensor, like: Tensor) -> Tensor:
        """The weights of cells, in the type of a message."""
        weight = self.weight[cell]
        return weight if weight.dtype == like.dtype else weight.to(like.dtype)

    def _finish(self, sums: Tensor) -> Tensor:
        """What follows the sum of messages: the bias, and the ReLU if there is one."""
        bias = self.bias
        if bias is not None:
            sums = sums + (bias if bias.dtype == sums.dtype else bias.to(sums.dtype))
        return sums.relu() if self.relu else sums

    def _fused(self, x: Tensor, kernel_map: KernelMap) -> Tensor:
        """Convolve, and do what :meth:`_finish` does, in one operator."""
        raise NotImplementedError

    def _options(self) -> str:
        """What a ``repr`` adds where it is not the default."""
        bias = "" if self.bias is not None else ", bias=False"
        return bias + (", relu=True" if self.relu else "")


class KNNConv(_KernelConv):
    r"""Convolution over k nearest neighbours (FOVI, Blauch, Alvarez & Konkle 2026).

    .. math::
        \mathbf{y}_o = \mathbf{b} + \sum_{p \in \mathcal{N}(o)} \mathbf{x}_p\,\mathbf{W}_{c(o, p)}

    where :math:`c(o, p)` is the cell of a square reference kernel that neighbour *p* of *o* falls
    in (:meth:`~fovigraph.graph.KNNGraph.kernel_map`).

    The layer holds no geometry: it takes the graph with the features. ``message`` and the sum are
    the definition, used under explainers and hooks or when ``fused`` is False; otherwise
    :func:`fovigraph.ops.knn_conv` computes the same faster. With ``relu`` set to True, which
    :func:`fovigraph.optimize` does, it also does the work of the ReLU that follows.

    With ``interpolation="bilinear"`` the weight of a neighbour is shared among the four cells
    around its place in the kernel, and so moves smoothly with that place; the nearest cell is the
    special case of neighbours that sit on cells.

    Args:
        in_channels: Channels C of the input.
        out_channels: Channels O of the output.
        kernel_size: Side s of the reference kernel; the weight is ``[s², C, O]``.
        bias: Whether to add a learnt bias.
        interpolation: ``"nearest"`` or ``"bilinear"``; up to four times the arithmetic.

    Example:
        >>> import torch, fovigraph as fg
        >>> retina = fg.SensorArray.matched(32)
        >>> graph = fg.knn_graph(retina, retina.strided(2), k=49)
        >>> fg.nn.KNNConv(3, 128, kernel_size=14)(torch.rand(8, len(retina), 3), graph).shape
        torch.Size([8, 230, 128])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        bias: bool = True,
        interpolation: str = "nearest",
    ):
        super().__init__(in_channels, kernel_size)
        self.interpolation = one_of("interpolation", interpolation, INTERPOLATIONS)
        self.out_channels = positive_int("out_channels", out_channels)
        self._make_parameters(bias, in_channels=self.in_channels, out_channels=self.out_channels)

    @property
    def fan_in(self) -> int:
        return self.in_channels * self.num_cells

    def forward(
        self,
        x: Features,
        graph: KNNGraph | Tensor,
        cell: Int64[Tensor, " E"] | None = None,
        size: tuple[int, int] | None = None,
        *,
        offset: Float[Tensor, "E 2"] | None = None,
    ) -> Float[Tensor, "*batch M D"]:
        """Convolve node features.

        Args:
            x: Features ``[*, num_src, in_channels]`` with any leading batch dimensions; or a pair
                ``(x_src, x_dst)``, of which only the first is used.
            graph: A :class:`~fovigraph.graph.KNNGraph`; or PyG's ``edge_index``, ``[2, E]``, in any
                order.
            cell: With an ``edge_index`` and the nearest cells, that of every edge, ``[E]``.
            size: With an ``edge_index``, ``(num_src, num_dst)``.
            offset: With an ``edge_index`` and bilinear interpolation, every edge's position in the
                kernel, ``[E, 2]``, in [-1, 1]; it may require a gradient.

        Returns:
            ``[*, num_dst, out_channels]``. A destination without real neighbours gets the bias,
            or 0 in a graph between masked arrays.

        Raises:
            ValueError, TypeError: If the arguments do not fit the layer or one another.
        """
        if self.interpolation == "nearest":
            if offset is not None:
                raise ValueError("offset must be None for interpolation='nearest': give cell")
            return super().forward(x, graph, cell, size)
        source, edges = bipartite(x, graph, size)
        check_channels(source, self.in_channels, self.weight)
        if cell is not None:
            raise ValueError("cell must be None for interpolation='bilinear': give offset")
        offset = edges.attribute("offset", offset, "the position in the kernel")
        if takes_messages(self, edges) or offset.requires_grad:
            cell, share = bilinear_cells(offset, self.kernel_size)
            return self._by_messages(source, edges, cell, share)
        kernel_map = edges.bilinear_map(self.kernel_size, offset)
        return edges.silence(self._finish(knn_conv_shared(source, self.weight, kernel_map)))

    def message(self, x_j: Tensor, cell: Tensor, share: Tensor | None = None) -> Tensor:
        weight, x_j = self._weight_of(cell, x_j), x_j.unsqueeze(-2)
        if share is None:
            return (x_j @ weight).squeeze(-2)
        # A share of zero of what is not finite is zero: the fused path passes it over.
        taken = share[..., None] != 0
        x_j = torch.where(taken | x_j.isfinite(), x_j, 0)
        weight = torch.where(taken[..., None] | weight.isfinite(), weight, 0)
        return torch.einsum("...eic,eico->...eo", share[..., None] * x_j, weight)

    def _fused(self, x: Tensor, kernel_map: KernelMap) -> Tensor:
        return ops.knn_conv(x, self.weight, kernel_map, self.bias, self.relu)

    @torch.no_grad()
    def load_conv2d(self, conv: nn.Conv2d, *, preserve_kernel_norm: bool = False) -> None:
        """Take over the weights (and bias) of a dense convolution.

        Kernel columns run along +u and rows along −v; a kernel of another size is resized
        bilinearly, corners aligned.

        Args:
            conv: The convolution.
            preserve_kernel_norm: Whether a kernel that is resized is scaled, for every output
                channel, to the L2 norm that it had.

        Raises:
            TypeError: If an argument is of another type.
            ValueError: If channels, groups or the presence of a bias differ.
        """
        instance("conv", conv, nn.Conv2d)
        flag("preserve_kernel_norm", preserve_kernel_norm)
        if conv.groups != 1:
            raise ValueError(f"conv must have groups=1, got {conv.groups}")
        wanted = (self.in_channels, self.out_channels)
        if (conv.in_channels, conv.out_channels) != wanted:
            raise ValueError(
                f"conv must map {wanted[0]} to {wanted[1]} channels, "
                f"got {conv.in_channels} to {conv.out_channels}"
            )
        _check_same_bias(self, conv)
        cells = _to_cells(conv.weight, self.kernel_size, preserve_kernel_norm)
        self.weight.copy_(cells.permute(2, 1, 0))
        if self.bias is not None and conv.bias is not None:
            self.bias.copy_(conv.bias)

    def __repr__(self) -> str:
        smooth = (
            "" if self.interpolation == "nearest" else f", interpolation={self.interpolation!r}"
        )
        return (
            f"{type(self).__name__}({self.in_channels}, {self.out_channels}, "
            f"kernel_size={self.kernel_size}{self._options()}{smooth})"
        )


class KNNDepthwiseConv(_KernelConv):
    r"""kNN convolution of every channel by itself, ``multiplier`` outputs a channel.

    .. math::
        y_{o, c M + m} = b_{c M + m} + \sum_{p \in \mathcal{N}(o)} x_{p, c}\, W_{c(o, p), c, m}

    Args:
        in_channels: Channels C of the input; the output has ``C · multiplier``.
        kernel_size: Side s of the reference kernel; the weight is ``[s², C, multiplier]``.
        multiplier: Outputs M of every input channel.
        bias: Whether to add a learnt bias.
    """

    def __init__(self, in_channels: int, kernel_size: int, multiplier: int = 1, bias: bool = True):
        super().__init__(in_channels, kernel_size)
        self.multiplier = positive_int("multiplier", multiplier)
        self.out_channels = self.in_channels * self.multiplier
        self._make_parameters(bias, in_channels=self.in_channels, multiplier=self.multiplier)

    @property
    def fan_in(self) -> int:
        return self.num_cells

    def message(self, x_j: Tensor, cell: Tensor) -> Tensor:
        return (x_j.unsqueeze(-1) * self._weight_of(cell, x_j)).flatten(-2)

    def _fused(self, x: Tensor, kernel_map: KernelMap) -> Tensor:
        return ops.knn_depthwise_conv(x, self.weight, kernel_map, self.bias, self.relu)

    @torch.no_grad()
    def load_conv2d(self, conv: nn.Conv2d, *, preserve_kernel_norm: bool = False) -> None:
        """Take over the weights of a depthwise ``Conv2d`` (as many groups as input channels).

        Args:
            conv: The convolution.
            preserve_kernel_norm: As for :class:`KNNConv`.

        Raises:
            TypeError: If an argument is of another type.
            ValueError: If channels, groups or the presence of a bias differ.
        """
        instance("conv", conv, nn.Conv2d)
        flag("preserve_kernel_norm", preserve_kernel_norm)
        wanted = (self.in_channels, self.out_channels, self.in_channels)
        given = (conv.in_channels, conv.out_channels, conv.groups)
        if given != wanted:
            raise ValueError(
                f"conv must have (in_channels, out_channels, groups) = {wanted}, got {given}"
            )
        _check_same_bias(self, conv)
        cells = _to_cells(conv.weight, self.kernel_size, preserve_kernel_norm)[:, 0]
        self.weight.copy_(cells.view(self.in_channels, self.multiplier, -1).permute(2, 0, 1))
        if self.bias is not None and conv.bias is not None:
            self.bias.copy_(conv.bias)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.in_channels}, kernel_size={self.kernel_size}, "
            f"multiplier={self.multiplier}{self._options()})"
        )


class KNNSeparableConv(nn.Module):
    """Depthwise-separable kNN convolution: depthwise in space, then a linear map over channels.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the reference kernel.
        multiplier: Depthwise outputs of every input channel.
        bias: Whether the linear map has a bias.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        multiplier: int = 1,
        bias: bool = True,
    ):
        super().__init__()
        out_channels, bias = positive_int("out_channels", out_channels), flag("bias", bias)
        self.depthwise = KNNDepthwiseConv(in_channels, kernel_size, multiplier, bias=False)
        channels = self.depthwise.out_channels
        check_weights(depthwise_channels=channels, out_channels=out_channels)
        self.pointwise = nn.Linear(channels, out_channels, bias=bias)

    @property
    def kernel_size(self) -> int:
        """Side of the reference kernel."""
        return self.depthwise.kernel_size

    def reset_parameters(self) -> None:
        """Draw the weights of both steps anew."""
        self.depthwise.reset_parameters()
        self.pointwise.reset_parameters()

    def forward(
        self,
        x: Features,
        graph: KNNGraph | Tensor,
        cell: Tensor | None = None,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """Convolve node features; arguments and errors as :class:`KNNConv` has them."""
        out = self.pointwise(self.depthwise(x, graph, cell, size))
        return graph.silence(out) if isinstance(graph, KNNGraph) else out


def _to_cells(weight: Tensor, kernel_size: int, preserve_norm: bool) -> Tensor:
    """Turn Conv2d weights ``[O, I, h, w]`` into cells ``[O, I, s²]`` of the reference kernel."""
    frame = weight.transpose(-1, -2).flip(-1)
    if frame.shape[-2:] == (kernel_size, kernel_size):
        return frame.flatten(-2)
    resized = functional.interpolate(
        frame, size=(kernel_size, kernel_size), mode="bilinear", align_corners=True
    )
    if preserve_norm:
        before, after = (x.flatten(1).norm(dim=1).clamp(min=1e-12) for x in (frame, resized))
        resized = resized * (before / after)[:, None, None, None]
    return resized.flatten(-2)


def _check_same_bias(layer: _KernelConv, conv: nn.Conv2d) -> None:
    if (layer.bias is None) != (conv.bias is None):
        raise ValueError(
            f"conv and layer must both have a bias or neither: bias={conv.bias is not None} in "
            f"conv, bias={layer.bias is not None} here"
        )
