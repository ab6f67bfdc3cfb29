"""The operators in torch's own differentiable operations, for :mod:`fovigraph.ops.transforms`.

They compute what the fused operators do, and take ``x`` with any leading dimensions. Torch knows
every derivative and batching rule of what they consist of.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fovigraph.graph.kernel_map import Triples
from fovigraph.ops.rows import equal_rows, sum_dtype


def conv(
    x: Tensor,
    weight: Tensor,
    by_cell: Triples,
    num_dst: int,
    bias: Tensor | None = None,
    relu: bool = False,
    share: Tensor | None = None,
) -> Tensor:
    """Convolve, cell by cell: see :func:`fovigraph.ops.knn_conv`.

    Args:
        x: ``[*, num_src, C]``.
        weight: ``[num_cells, C, O]``.
        by_cell: The triples by cell.
        num_dst: Number of destinations.
        bias: ``[O]``.
        relu: Whether what is then negative becomes zero.
        share: Factor of every triple, ``[E]``, in their order.
    """
    sources = by_cell.src.split(by_cell.ptr.diff().tolist())
    pairs = zip(sources, weight.unbind(0), strict=True)
    products = torch.cat([x.index_select(-2, src) @ matrix for src, matrix in pairs], dim=-2)
    if share is not None:
        products = share[:, None] * products
    return _collect(products, by_cell.dst, num_dst, bias, relu)


def depthwise(
    x: Tensor,
    weight: Tensor,
    triples: Triples,
    num_dst: int,
    bias: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """Convolve every channel by itself: see :func:`fovigraph.ops.knn_depthwise_conv`.

    Args:
        x: ``[*, num_src, C]``.
        weight: ``[num_cells, C, M]``.
        triples: In any order.
        num_dst: Number of destinations.
        bias: ``[C · M]``.
        relu: Whether what is then negative becomes zero.
    """
    features = x.index_select(-2, triples.src).unsqueeze(-1)
    products = (features * weight.index_select(0, triples.cell)).flatten(-2)
    return _collect(products, triples.dst, num_dst, bias, relu)


def _collect(
    products: Tensor, dst: Tensor, num_dst: int, bias: Tensor | None, relu: bool
) -> Tensor:
    """Sum the products of all triples, ``[*, E, O]``, into their destinations."""
    wide = products.to(sum_dtype(products))
    start = wide.new_zeros(*wide.shape[:-2], num_dst, wide.shape[-1])
    out = start.index_add(-2, dst, wide)
    if bias is not None:
        out = out + bias
    return (out.relu() if relu else out).to(products.dtype)


def pool(x: Tensor, src: Tensor, ptr: Tensor, reduce: str, edge_weight: Tensor | None) -> Tensor:
    """Reduce neighbourhoods: see :func:`fovigraph.ops.knn_pool`, whose arguments these are."""
    out = x.new_zeros(*x.shape[:-2], len(ptr) - 1, x.shape[-1])
    for nodes, edges in equal_rows(ptr, x.shape[-1]):
        near = x.index_select(-2, src[edges.flatten()]).unflatten(-2, edges.shape)
        if reduce == "max":
            reduced = near.max(dim=-2).values
        elif edge_weight is not None:
            weight = edge_weight.index_select(0, edges.flatten()).view(*edges.shape, 1)
            reduced = (weight.to(x.dtype) * near).sum(-2)
        else:
            reduced = near.mean(-2) if reduce == "mean" else near.sum(-2)
        out = out.index_add(-2, nodes, reduced)
    return out


def won(grad: Tensor, winner: Tensor, num_src: int) -> Tensor:
    """Give the gradients ``[B, num_dst, C]`` of maxima to the sources that won, same shape.

    A source that is not there, ``num_src``, wins where there are no neighbours.
    """
    start = grad.new_zeros(grad.shape[0], num_src + 1, grad.shape[2])
    return start.scatter_add(1, winner, grad)[:, :-1]
