"""Depthwise kNN convolution over a kernel map: every channel by itself.

With X ``[B, src, C]`` and W ``[cells, C, M]`` (M outputs a channel),

    forward          Y[dst, c·M + m] = Σ X[src, c] · W[cell, c, m]
    input gradient   dX[src, c]      = Σ dY[dst, c·M + m] · W[cell, c, m]
    weight gradient  dW[cell, c, m]  = Σ X[src, c] · dY[dst, c·M + m]

There is no GEMM here and so nothing to choose: the sums run cell by cell. (On a GPU, row by row as
above, in the kernels of :mod:`fovigraph.ops.gpu`.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fovigraph.graph import KernelMap
from fovigraph.graph.kernel_map import Triples
from fovigraph.ops import gpu
from fovigraph.ops.rows import autocast, chunks, from_node_rows, node_rows, sum_dtype


def knn_depthwise_conv(x: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """Convolve every channel of node features by itself over a kernel map.

    Args:
        x: Features of the sources, ``[*, num_src, C]``.
        weight: ``[num_cells, C, M]``.
        kernel_map: The triples (dst, src, cell).

    Returns:
        Features of the destinations, ``[*, num_dst, C · M]``.
    """
    x, weight = autocast(x, weight)
    flat = x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])
    ways = [*kernel_map.by_cell, *kernel_map.by_dst, *kernel_map.by_src]
    out = _knn_depthwise_conv(flat, weight, ways, kernel_map.num_dst)
    return out.view(*x.shape[:-2], *out.shape[-2:])


@torch.library.custom_op("fovigraph::knn_depthwise_conv", mutates_args=())
def _knn_depthwise_conv(x: Tensor, weight: Tensor, ways: Sequence[Tensor], num_dst: int) -> Tensor:
    """Convolve, given the triples by cell and, for a GPU, by destination and by source."""
    batch, (channels, multiplier) = len(x), weight.shape[1:]
    if gpu.serves(x, weight):
        from fovigraph.ops.gpu import reduce

        return reduce.gather_channels(x, weight, Triples(*ways[5:10]))
    rows = node_rows(x)
    out = x.new_zeros(num_dst, batch * channels * multiplier, dtype=sum_dtype(x))
    triples = Triples(*ways[:5])
    for cell, part in chunks(triples.ptr, batch * channels * (1 + multiplier)):
        gathered = rows.index_select(0, triples.src[part]).view(-1, channels, 1)
        product = (gathered * weight[cell]).view(part.stop - part.start, out.shape[1])
        out.index_add_(0, triples.dst[part], product.to(out.dtype))
    return from_node_rows(out, batch, channels * multiplier).to(x.dtype)


@_knn_depthwise_conv.register_fake
def _(x: Tensor, weight: Tensor, ways: Sequence[Tensor], num_dst: int) -> Tensor:
    return x.new_empty(x.shape[0], num_dst, weight.shape[1] * weight.shape[2])


@torch.library.custom_op("fovigraph::knn_depthwise_conv_backward", mutates_args=())
def _knn_depthwise_conv_backward(
    grad: Tensor, x: Tensor, weight: Tensor, ways: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    batch, (channels, multiplier) = len(x), weight.shape[1:]
    if gpu.serves(grad, x, weight):
        from fovigraph.ops.gpu import reduce

        turned = Triples(*ways[10:]).reversed()
        grad_x = reduce.gather_channels(grad, weight, turned, back=True)
        return grad_x, reduce.gather_product(x, grad, Triples(*ways[:5]))
    rows, grad_rows = node_rows(x), node_rows(grad)
    grad_x = torch.zeros_like(rows, dtype=sum_dtype(x))
    grad_weight = torch.zeros_like(weight, dtype=sum_dtype(x))
    triples = Triples(*ways[:5])
    for cell, part in chunks(triples.ptr, batch * channels * (1 + multiplier)):
        gathered = rows.index_select(0, triples.src[part]).view(-1, channels, 1)
        gathered_grad = grad_rows.index_select(0, triples.dst[part]).view(-1, channels, multiplier)
        product = (
            (gathered_grad * weight[cell]).sum(-1).view(part.stop - part.start, grad_x.shape[1])
        )
        grad_x.index_add_(0, triples.src[part], product.to(grad_x.dtype))
        grad_weight[cell] += (gathered * gathered_grad).sum(0)
    return from_node_rows(grad_x, batch, channels).to(x.dtype), grad_weight.to(x.dtype)


@_knn_depthwise_conv_backward.register_fake
def _(grad: Tensor, x: Tensor, weight: Tensor, ways: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(weight)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, ways, _ = inputs
    ctx.save_for_backward(x, weight, *ways)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, weight, *ways = ctx.saved_tensors
    grad_x, grad_weight = _knn_depthwise_conv_backward(grad.contiguous(), x, weight, ways)
    return grad_x, grad_weight, [None] * len(ways), None


_knn_depthwise_conv.register_autograd(_backward, setup_context=_setup_context)
