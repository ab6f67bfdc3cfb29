"""kNN convolution over a bilinear kernel map, whose edges are shared among cells.

With X ``[B, src, C]``, W ``[cells, C, O]`` and a share of every triple,

    forward          Y[dst]   = Σ share · X[src] @ W[cell]
    input gradient   dX[src]  = Σ share · dY[dst] @ W[cell]ᵀ
    weight gradient  dW[cell] = Σ share · X[src]ᵀ @ dY[dst]

All sums run cell by cell: one GEMM with the cell's weights, whose gathered rows are scaled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fovigraph.graph import KernelMap
from fovigraph.graph.kernel_map import Triples
from fovigraph.ops import plain
from fovigraph.ops.gemm import gemm
from fovigraph.ops.operands import operands
from fovigraph.ops.rows import chunks, from_node_rows, node_rows, sum_dtype
from fovigraph.ops.transforms import differentiable, gradients, transformed


def knn_conv_shared(x: Tensor, weight: Tensor, kernel_map: KernelMap) -> Tensor:
    """Convolve node features over a bilinear kernel map.

    Args:
        x: Features of the sources, ``[*, num_src, C]``.
        weight: One matrix per kernel cell, ``[num_cells, C, O]``.
        kernel_map: The triples (dst, src, cell), with shares.

    Returns:
        Features of the destinations, ``[*, num_dst, O]``.

    Raises:
        ValueError, TypeError: If the kernel map has no shares, or the arguments differ in device or
            dtype, or do not fit in size.
    """
    x, weight, _ = operands(x, weight, None, kernel_map)
    share = kernel_map.share_by_cell
    if share is None:
        raise ValueError(f"kernel_map must have shares (KernelMap.bilinear), got {kernel_map}")
    by_cell, num_dst = kernel_map.by_cell, kernel_map.num_dst
    if transformed():
        return plain.conv(x, weight, by_cell, num_dst, share=share.to(x.dtype))
    flat = x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])
    out = _knn_conv_shared(flat, weight, list(by_cell), share.to(x.dtype), num_dst)
    return out.view(*x.shape[:-2], *out.shape[-2:])


@torch.library.custom_op("fovigraph::knn_conv_shared", mutates_args=())
def _knn_conv_shared(
    x: Tensor, weight: Tensor, by_cell: Sequence[Tensor], share: Tensor, num_dst: int
) -> Tensor:
    batch, (channels, out_channels) = len(x), weight.shape[1:]
    rows, triples = node_rows(x), Triples(*by_cell)
    out = x.new_zeros(num_dst, batch * out_channels, dtype=sum_dtype(x))
    for cell, part in chunks(triples.ptr, batch * (channels + out_channels)):
        gathered = rows.index_select(0, triples.src[part]).mul_(share[part, None])
        product = gemm(gathered.view(-1, channels), weight[cell]).view(len(gathered), out.shape[1])
        out.index_add_(0, triples.dst[part], product.to(out.dtype))
    return from_node_rows(out, batch, out_channels).to(x.dtype)


@_knn_conv_shared.register_fake
def _(x: Tensor, weight: Tensor, by_cell: Sequence[Tensor], share: Tensor, num_dst: int) -> Tensor:
    return x.new_empty(x.shape[0], num_dst, weight.shape[2])


@torch.library.custom_op("fovigraph::knn_conv_shared_backward", mutates_args=())
def _knn_conv_shared_backward(
    grad: Tensor, x: Tensor, weight: Tensor, by_cell: Sequence[Tensor], share: Tensor
) -> tuple[Tensor, Tensor]:
    batch, (channels, out_channels) = len(x), weight.shape[1:]
    rows, grad_rows, triples = node_rows(x), node_rows(grad), Triples(*by_cell)
    grad_x = torch.zeros_like(rows, dtype=sum_dtype(x))
    grad_weight = torch.zeros_like(weight, dtype=sum_dtype(x))
    for cell, part in chunks(triples.ptr, batch * (channels + out_channels)):
        gathered = rows.index_select(0, triples.src[part]).view(-1, channels)
        shared = grad_rows.index_select(0, triples.dst[part]).mul_(share[part, None])
        shared = shared.view(-1, out_channels)
        grad_weight[cell] += gemm(gathered.t(), shared)
        product = gemm(shared, weight[cell].t()).view(part.stop - part.start, grad_x.shape[1])
        grad_x.index_add_(0, triples.src[part], product.to(grad_x.dtype))
    return from_node_rows(grad_x, batch, channels).to(x.dtype), grad_weight.to(x.dtype)


@_knn_conv_shared_backward.register_fake
def _(
    grad: Tensor, x: Tensor, weight: Tensor, by_cell: Sequence[Tensor], share: Tensor
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), weight.new_empty(weight.shape)


def _plain_backward(
    grad: Tensor, x: Tensor, weight: Tensor, by_cell: Sequence[Tensor], share: Tensor
) -> tuple[Tensor, ...]:
    def convolve(x: Tensor, weight: Tensor) -> Tensor:
        return plain.conv(x, weight, Triples(*by_cell), grad.shape[1], share=share)

    return gradients(convolve, (x, weight), grad)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, by_cell, share, _ = inputs
    ctx.save_for_backward(x, weight, share, *by_cell)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, weight, share, *by_cell = ctx.saved_tensors
    backward = _plain_backward if transformed(grad) else _knn_conv_shared_backward
    grads = backward(grad.contiguous(), x, weight, by_cell, share)
    return *grads, [None] * len(by_cell), None, None


_knn_conv_shared.register_autograd(_backward, setup_context=_setup_context)
differentiable(_knn_conv_shared_backward, _plain_backward, operands=3)
