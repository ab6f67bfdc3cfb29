"""Pooling over neighbourhoods: gather the neighbours of nodes with equally many, reduce them.

The backward pass of a maximum goes to the one neighbour that won; ties go to the first.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fovigraph.ops.rows import equal_rows, from_node_rows, node_rows


def knn_pool(
    x: Tensor, src: Tensor, ptr: Tensor, reduce: str, edge_weight: Tensor | None = None
) -> Tensor:
    """Reduce the features of every destination's neighbours.

    Args:
        x: Features of the sources, ``[*, num_src, C]``.
        src: Sources of the edges, sorted by destination, ``[E]``.
        ptr: Where each destination's edges begin, ``[num_dst + 1]``.
        reduce: ``"max"``, ``"mean"`` or ``"sum"``.
        edge_weight: Factor of every edge's features in a sum, ``[E]``; it gets no gradient.

    Returns:
        ``[*, num_dst, C]``; zero where a destination has no neighbours.
    """
    flat = x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])
    out, _ = _knn_pool(flat, src, ptr, reduce, edge_weight)
    return out.view(*x.shape[:-2], *out.shape[-2:])


@torch.library.custom_op("fovigraph::knn_pool", mutates_args=())
def _knn_pool(
    x: Tensor, src: Tensor, ptr: Tensor, reduce: str, edge_weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the pooled features, and for a maximum which source won, ``[num_dst, B · C]``."""
    rows = node_rows(x)
    out = rows.new_zeros(len(ptr) - 1, rows.shape[1])
    winner = torch.empty(0, dtype=torch.int64, device=x.device)
    if reduce == "max":  # without neighbours, a node that is not there wins
        winner = torch.full(out.shape, len(rows), device=x.device)
    for nodes, edges in equal_rows(ptr, rows.shape[1]):
        neighbours = rows.index_select(0, src[edges.flatten()]).view(*edges.shape, rows.shape[1])
        if reduce == "max":
            best, which = neighbours.max(dim=1)
            winner[nodes] = src[edges].gather(1, which)
        elif edge_weight is not None:
            best = (edge_weight[edges][..., None].to(x.dtype) * neighbours).sum(1)
        else:
            best = neighbours.mean(1) if reduce == "mean" else neighbours.sum(1)
        out[nodes] = best
    return from_node_rows(out, len(x), x.shape[2]), winner


@_knn_pool.register_fake
def _(
    x: Tensor, src: Tensor, ptr: Tensor, reduce: str, edge_weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    batch, _, channels = x.shape
    num_dst = ptr.shape[0] - 1
    winner = (num_dst, batch * channels) if reduce == "max" else (0,)
    return x.new_empty(batch, num_dst, channels), src.new_empty(winner)


@torch.library.custom_op("fovigraph::knn_pool_backward", mutates_args=())
def _knn_pool_backward(
    grad: Tensor,
    winner: Tensor,
    src: Tensor,
    ptr: Tensor,
    reduce: str,
    edge_weight: Tensor | None,
    num_src: int,
) -> Tensor:
    rows = node_rows(grad)
    if reduce == "max":
        grad_x = rows.new_zeros(num_src + 1, rows.shape[1]).scatter_add_(0, winner, rows)[:-1]
    else:
        grad_x = rows.new_zeros(num_src, rows.shape[1])
        for nodes, edges in equal_rows(ptr, rows.shape[1]):
            share = rows[nodes, None].expand(*edges.shape, -1)
            if edge_weight is not None:
                share = edge_weight[edges][..., None].to(grad.dtype) * share
            elif reduce == "mean":
                share = share / edges.shape[1]
            grad_x.index_add_(0, src[edges.flatten()], share.flatten(0, 1))
    return from_node_rows(grad_x, len(grad), grad.shape[2])


@_knn_pool_backward.register_fake
def _(
    grad: Tensor,
    winner: Tensor,
    src: Tensor,
    ptr: Tensor,
    reduce: str,
    edge_weight: Tensor | None,
    num_src: int,
) -> Tensor:
    return grad.new_empty(grad.shape[0], num_src, grad.shape[2])


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, src, ptr, ctx.reduce, edge_weight = inputs
    ctx.num_src = x.shape[1]
    ctx.save_for_backward(output[1], src, ptr, edge_weight)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Any, ...]:
    winner, src, ptr, edge_weight = ctx.saved_tensors
    grad_x = _knn_pool_backward(
        grad.contiguous(), winner, src, ptr, ctx.reduce, edge_weight, ctx.num_src
    )
    return grad_x, None, None, None, None


_knn_pool.register_autograd(_backward, setup_context=_setup_context)
