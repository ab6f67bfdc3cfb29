"""The operators in torch's own differentiable operations, for :mod:`fovigraph.ops.transforms`.

They compute what the fused operators do, and take ``x`` with any leading dimensions. Torch knows
every derivative and batching rule of what they consist of.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fovigraph.graph.kernel_map import Triples
from fovigraph.ops.rows import sum_dtype


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
    if torch.compiler.is_compiling():  # which does not know how many triples a cell has
        near, matrices = x.index_select(-2, by_cell.src), weight.index_select(0, by_cell.cell)
        products = torch.einsum("...ec,eco->...eo", near, matrices)
    else:
        sources = by_cell.src.split(by_cell.ptr.diff().tolist())
        pairs = zip(sources, weight.unbind(0), strict=True)
        products = torch.cat([x.index_select(-2, src) @ matrix for src, matrix in pairs], dim=-2)
    if share is not None:
        products = share[:, None] * products
    return _finish(products, by_cell.dst, num_dst, bias, relu)


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
    return _finish(products, triples.dst, num_dst, bias, relu)


def _finish(products: Tensor, dst: Tensor, num_dst: int, bias: Tensor | None, relu: bool) -> Tensor:
    """Sum the products of all triples, ``[*, E, O]``, into their destinations; add the bias."""
    out = _sum(products.to(sum_dtype(products)), dst, num_dst)
    if bias is not None:
        out = out + bias
    return (out.relu() if relu else out).to(products.dtype)


def _sum(values: Tensor, dst: Tensor, num_dst: int) -> Tensor:
    """Sum values of edges, ``[*, E, C]``, into their destinations."""
    start = values.new_zeros(*values.shape[:-2], num_dst, values.shape[-1])
    # Not index_add, of which torch 2.13's Inductor compiles the forward mode wrongly.
    return start.scatter_add(-2, dst[:, None].expand_as(values), values)


def pool(
    x: Tensor,
    src: Tensor,
    ptr: Tensor,
    reduce: str,
    edge_weight: Tensor | None,
    most: int | None = None,
) -> Tensor:
    """Reduce neighbourhoods: see :func:`fovigraph.ops.knn_pool`, whose arguments these are."""
    count = ptr.diff()[:, None]
    if reduce == "max":
        return _greatest(x, src, ptr, int(count.max()) if most is None else most)
    near = x.index_select(-2, src)
    if edge_weight is not None:
        near = edge_weight.to(x.dtype)[:, None] * near
    dst = torch.searchsorted(ptr, torch.arange(len(src), device=ptr.device), right=True) - 1
    wide = near.to(sum_dtype(x)) if x.is_floating_point() else near
    out = _sum(wide, dst, len(count))
    return (out / count.clamp(min=1) if reduce == "mean" else out).to(x.dtype)


def _greatest(x: Tensor, src: Tensor, ptr: Tensor, most: int) -> Tensor:
    """Return the maximum of every neighbourhood; of more than ``most`` nodes it is not a number.

    Neighbourhoods are filled up with a node of the lowest number there is, which comes last among
    equals and so never wins.
    """
    count = ptr.diff()[:, None]
    place = torch.arange(max(1, most), device=ptr.device)
    none = src.new_full((1,), x.shape[-2])
    edge = torch.where(place < count, ptr[:-1, None] + place, len(src))
    node = torch.cat((src, none))[edge]
    low = -torch.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
    filled = torch.cat((x, torch.full_like(x[..., :1, :], low)), dim=-2)
    near = filled.index_select(-2, node.flatten()).unflatten(-2, node.shape)
    out = torch.where(count > 0, near.max(dim=-2).values, 0)
    return torch.where(count > most, torch.nan, out) if x.is_floating_point() else out


def won(grad: Tensor, winner: Tensor, num_src: int) -> Tensor:
    """Give the gradients ``[B, num_dst, C]`` of maxima to the sources that won, same shape.

    A source that is not there, ``num_src``, wins where there are no neighbours.
    """
    start = grad.new_zeros(grad.shape[0], num_src + 1, grad.shape[2])
    return start.scatter_add(1, winner, grad)[:, :-1]
