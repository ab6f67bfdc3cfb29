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

import torch
from jaxtyping import Float
from torch import Tensor

from fovigraph.graph import KernelMap
from fovigraph.graph.kernel_map import Triples
from fovigraph.ops import plain
from fovigraph.ops.gemm import gemm
from fovigraph.ops.operands import operands
from fovigraph.ops.registration import register_conv
from fovigraph.ops.rows import chunks, from_node_rows, node_rows, sum_dtype
from fovigraph.ops.transforms import transformed


def knn_conv_shared(
    x: Float[Tensor, "*batch N C"], weight: Float[Tensor, "cells C D"], kernel_map: KernelMap
) -> Float[Tensor, "*batch M D"]:
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
    out = _knn_conv_shared(flat, weight, list(by_cell), share.to(x.dtype), None, num_dst, False)
    return out.view(*x.shape[:-2], *out.shape[-2:])


def _forward(
    x: Tensor,
    weight: Tensor,
    rows: Sequence[Tensor],
    share: Tensor | None,
    bias: Tensor | None,
    num_dst: int,
    relu: bool,
) -> Tensor:
    assert share is not None
    batch, (channels, out_channels) = len(x), weight.shape[1:]
    features, triples = node_rows(x), Triples(*rows)
    out = x.new_zeros(num_dst, batch * out_channels, dtype=sum_dtype(x))
    for cell, part in chunks(triples.ptr, batch * (channels + out_channels)):
        gathered = features.index_select(0, triples.src[part]).mul_(share[part, None])
        product = gemm(gathered.view(-1, channels), weight[cell]).view(len(gathered), out.shape[1])
        out.index_add_(0, triples.dst[part], product.to(out.dtype))
    return from_node_rows(out, batch, out_channels).to(x.dtype)


def _backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    rows: Sequence[Tensor],
    share: Tensor | None,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor]:
    assert share is not None
    batch, (channels, out_channels) = len(x), weight.shape[1:]
    features, grad_rows, triples = node_rows(x), node_rows(grad), Triples(*rows)
    grad_x = torch.zeros_like(features, dtype=sum_dtype(x)) if needs[0] else x.new_empty(0)
    grad_weight = torch.zeros_like(weight, dtype=sum_dtype(x)) if needs[1] else weight.new_empty(0)
    for cell, part in chunks(triples.ptr, batch * (channels + out_channels)):
        shared = grad_rows.index_select(0, triples.dst[part]).mul_(share[part, None])
        shared = shared.view(-1, out_channels)
        if needs[1]:
            gathered = features.index_select(0, triples.src[part]).view(-1, channels)
            grad_weight[cell] += gemm(gathered.t(), shared)
        if needs[0]:
            product = gemm(shared, weight[cell].t()).view(part.stop - part.start, grad_x.shape[1])
            grad_x.index_add_(0, triples.src[part], product.to(grad_x.dtype))
    if needs[0]:
        grad_x = from_node_rows(grad_x, batch, channels).to(x.dtype)
    return grad_x, grad_weight.to(x.dtype)


def _plain(
    x: Tensor, weight: Tensor, rows: Sequence[Tensor], share: Tensor | None, num_dst: int
) -> Tensor:
    return plain.conv(x, weight, Triples(*rows), num_dst, share=share)


_knn_conv_shared = register_conv("knn_conv_shared", _forward, _backward, _plain)
