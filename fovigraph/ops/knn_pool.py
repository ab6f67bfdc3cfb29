"""Pooling over neighbourhoods: gather the neighbours of nodes with equally many, reduce them.

The backward pass of a maximum goes to the one neighbour that won: the first, in the order of the
edges, of equal ones, and of those that are not a number. On a GPU the kernels of
:mod:`fovigraph.ops.gpu` do the same; their backward pass gathers by source.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int64, Num
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from fovigraph._checks import instance, one_of, whole_number
from fovigraph._tensors import check_below, float_tensor, index_tensor, may_inspect, same_device
from fovigraph.graph.kernel_map import Triples, row_ptr
from fovigraph.ops import cpu, gpu, plain
from fovigraph.ops.registration import directly, unobserved
from fovigraph.ops.rows import equal_rows, from_node_rows, node_rows
from fovigraph.ops.transforms import differentiable, gradients, transformed

REDUCTIONS = ("max", "mean", "sum")


def knn_pool(
    x: Num[Tensor, "*batch N C"],
    src: Int64[Tensor, " E"],
    ptr: Int64[Tensor, " rows"],
    reduce: str,
    edge_weight: Float[Tensor, " E"] | None = None,
    by_src: Triples | None = None,
    most: int | None = None,
) -> Num[Tensor, "*batch M C"]:
    """Reduce the features of every destination's neighbours.

    Args:
        x: Features of the sources, ``[*, num_src, C]``.
        src: Sources of the edges, sorted by destination, ``[E]``.
        ptr: Where each destination's edges begin, ``[num_dst + 1]``.
        reduce: ``"max"``, ``"mean"`` or ``"sum"``.
        edge_weight: Factor of every edge's features in a sum, ``[E]``; with a gradient, slower.
        by_src: The edges by source. Saves the backward pass on a GPU from sorting them.
        most: How many neighbours no destination exceeds. Up to 256, a GPU keeps winners in bytes,
            and the maximum of more than 256 is not a number; under a function transform, that of
            more than were promised.

    Returns:
        ``[*, num_dst, C]``; zero where a destination has no neighbours.

    Raises:
        ValueError, TypeError: If the arguments are not what they should be, differ in device, or do
            not fit one another. (Nodes are not looked at on a GPU, which would wait for it.)
    """
    reduce = one_of("reduce", reduce, REDUCTIONS)
    check_poolable(x, reduce, weighted=edge_weight is not None)
    if x.dim() < 2:
        raise ValueError(f"x must be [..., nodes, channels], got shape {list(x.shape)}")
    index_tensor("src", src, ("E",))
    index_tensor("ptr", ptr, ("num_dst + 1",))
    if edge_weight is not None:
        if reduce != "sum":
            raise ValueError(f"edge_weight must be None for reduce={reduce!r}: it is for a sum")
        float_tensor("edge_weight", edge_weight, (len(src),))
    if by_src is not None:
        instance("by_src", by_src, Triples)
    if most is not None:
        whole_number("most", most, most=2**31 - 1)
    same_device(x=x, src=src, ptr=ptr, edge_weight=edge_weight)
    _check_rows(src, ptr, x.shape[-2], most)
    return reduce_rows(x, src, ptr, reduce, edge_weight, by_src, most)


def check_poolable(x: Tensor, reduce: str, weighted: bool = False) -> None:
    """Refuse features of which there is no such reduction."""
    instance("x", x, Tensor, allowed="a torch.Tensor")
    kind, refused = "floating point", not (x.is_floating_point() or x.is_complex())
    if reduce == "max":
        kind, refused = "real numbers", x.is_complex() or x.dtype == torch.bool
    elif reduce == "sum" and not weighted:
        kind, refused = "numbers", x.dtype == torch.bool
    if refused:
        raise TypeError(f"x must be {kind} for a {reduce}, got {x.dtype}")


def _check_rows(src: Tensor, ptr: Tensor, num_src: int, most: int | None) -> None:
    """Refuse edges from nodes that are not there, and rows that are not rows of these edges."""
    if torch._C._functorch.is_batchedtensor(src) or torch._C._functorch.is_batchedtensor(ptr):
        raise ValueError(
            "src and ptr must be the same for all that vmap runs over, got batches of them; "
            "layers with `fused = False` take a batch of edge_index"
        )
    if not may_inspect(ptr):
        return
    check_below("src", src, nodes=num_src)
    ends = (int(ptr[0]), int(ptr[-1])) if len(ptr) else None
    if ends != (0, len(src)) or (ptr.diff() < 0).any():
        raise ValueError(
            f"ptr must rise from 0 to {len(src)}, the number of edges, and never fall, "
            f"got {ends} at its ends"
        )
    longest = int(ptr.diff().max()) if len(ptr) > 1 else 0
    if most is not None and most < longest:
        raise ValueError(f"most must be at least {longest}, as many edges as a row has, got {most}")


def reduce_rows(
    x: Num[Tensor, "*batch N C"],
    src: Int64[Tensor, " E"],
    ptr: Int64[Tensor, " rows"],
    reduce: str,
    edge_weight: Float[Tensor, " E"] | None = None,
    by_src: Triples | None = None,
    most: int | None = None,
) -> Num[Tensor, "*batch M C"]:
    """Do what :func:`knn_pool` does, with arguments that are known to be right."""
    weighted = edge_weight is not None and edge_weight.requires_grad
    if transformed() or (weighted and torch.is_grad_enabled()):
        return plain.pool(x, src, ptr, reduce, edge_weight, most)
    flat = x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])
    edges = (None, None, None) if by_src is None else (by_src.dst, by_src.edge, by_src.ptr)
    out, _ = _knn_pool(flat, src, ptr, reduce, edge_weight, *edges, most)
    return out.view(*x.shape[:-2], *out.shape[-2:])


def _forward(
    x: Tensor,
    src: Tensor,
    ptr: Tensor,
    reduce: str,
    edge_weight: Tensor | None,
    dst_by_src: Tensor | None = None,
    edge_by_src: Tensor | None = None,
    ptr_by_src: Tensor | None = None,
    most: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the pooled features, and for a maximum which neighbour won, ``[B, num_dst, C]``.

    That is its place among the destination's edges; of a destination without any, zero.
    """
    if gpu.serves(x):
        from fovigraph.ops.gpu import pool

        return pool.pool(x, src, ptr, reduce, edge_weight, most)
    if cpu.serves(x):
        return cpu.pool(x, src, ptr, reduce, edge_weight)
    rows = node_rows(x)
    out = rows.new_zeros(len(ptr) - 1, rows.shape[1])
    winner = torch.zeros(out.shape, dtype=torch.int32, device=x.device)
    for nodes, edges in equal_rows(ptr, rows.shape[1]):
        neighbours = rows.index_select(0, src[edges.flatten()]).view(*edges.shape, rows.shape[1])
        if reduce == "max":
            best, which = neighbours.max(dim=1)
            winner[nodes] = which.to(winner.dtype)
        elif edge_weight is not None:
            best = (edge_weight[edges][..., None].to(x.dtype) * neighbours).sum(1)
        else:
            best = neighbours.mean(1) if reduce == "mean" else neighbours.sum(1)
        out[nodes] = best
    shape = len(x), x.shape[2]
    winner = from_node_rows(winner, *shape) if reduce == "max" else winner.new_empty(0)
    return from_node_rows(out, *shape), winner


_pool_operator = torch.library.custom_op("fovigraph::knn_pool", _forward, mutates_args=())


@_pool_operator.register_fake
def _(
    x: Tensor,
    src: Tensor,
    ptr: Tensor,
    reduce: str,
    edge_weight: Tensor | None,
    dst_by_src: Tensor | None = None,
    edge_by_src: Tensor | None = None,
    ptr_by_src: Tensor | None = None,
    most: int | None = None,
) -> tuple[Tensor, Tensor]:
    batch, _, channels = x.shape
    num_dst = ptr.shape[0] - 1
    out = x.new_empty(batch, num_dst, channels)
    winner = out.shape if reduce == "max" else (0,)
    dtype = gpu.winner_dtype(most) if gpu.serves(x) else torch.int32
    return out, out.new_empty(winner, dtype=dtype)


def _gradient(
    grad: Tensor,
    winner: Tensor,
    src: Tensor,
    ptr: Tensor,
    reduce: str,
    edge_weight: Tensor | None,
    num_src: int,
    dst_by_src: Tensor | None = None,
    edge_by_src: Tensor | None = None,
    ptr_by_src: Tensor | None = None,
) -> Tensor:
    if gpu.serves(grad):
        from fovigraph.ops.gpu import pool

        if dst_by_src is None or edge_by_src is None or ptr_by_src is None:
            dst_by_src, edge_by_src, ptr_by_src = _sort_by_src(src, ptr, num_src)
        by_src = dst_by_src, edge_by_src, ptr_by_src
        return pool.pool_backward(grad, winner, ptr, reduce, edge_weight, *by_src)
    if cpu.serves(grad):
        return cpu.pool_backward(grad, winner, src, ptr, reduce, edge_weight, num_src)
    if reduce == "max":
        return plain.won(grad, _winning_source(winner, src, ptr, num_src), num_src).contiguous()
    rows = node_rows(grad)
    grad_x = rows.new_zeros(num_src, rows.shape[1])
    for nodes, edges in equal_rows(ptr, rows.shape[1]):
        share = rows[nodes, None].expand(*edges.shape, -1)
        if edge_weight is not None:
            share = edge_weight[edges][..., None].to(grad.dtype) * share
        elif reduce == "mean":
            share = share / edges.shape[1]
        grad_x.index_add_(0, src[edges.flatten()], share.flatten(0, 1))
    return from_node_rows(grad_x, len(grad), grad.shape[2])


_gradient_operator = torch.library.custom_op(
    "fovigraph::knn_pool_backward", _gradient, mutates_args=()
)


@_gradient_operator.register_fake
def _(
    grad: Tensor,
    winner: Tensor,
    src: Tensor,
    ptr: Tensor,
    reduce: str,
    edge_weight: Tensor | None,
    num_src: int,
    dst_by_src: Tensor | None = None,
    edge_by_src: Tensor | None = None,
    ptr_by_src: Tensor | None = None,
) -> Tensor:
    return grad.new_empty(grad.shape[0], num_src, grad.shape[2])


def _sort_by_src(src: Tensor, ptr: Tensor, num_src: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the destinations of the edges by source, these edges, and where each source begins."""
    edge = src.argsort(stable=True)
    dst = torch.searchsorted(ptr, edge, right=True) - 1
    return dst, edge, row_ptr(src[edge], num_src)


def _plain_backward(
    grad: Tensor,
    winner: Tensor,
    src: Tensor,
    ptr: Tensor,
    reduce: str,
    edge_weight: Tensor | None,
    num_src: int,
    *by_src: Tensor | None,
) -> Tensor:
    batch, _, channels = grad.shape
    if reduce == "max":
        return plain.won(grad, _winning_source(winner, src, ptr, num_src), num_src)
    zeros = torch.zeros(batch, num_src, channels, dtype=grad.dtype, device=grad.device)
    return gradients(lambda x: plain.pool(x, src, ptr, reduce, edge_weight), (zeros,), grad)[0]


def _winning_source(winner: Tensor, src: Tensor, ptr: Tensor, num_src: int) -> Tensor:
    """Return which source won, ``[B, num_dst, C]``; the one after the last where there is none."""
    none = src.new_full((1,), num_src)
    found = torch.cat((src, none))[ptr[:-1, None] + winner]
    return torch.where(ptr.diff()[:, None] > 0, found, none)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, src, ptr, ctx.reduce, edge_weight, *by_src, _ = inputs
    ctx.num_src = x.shape[1]
    ctx.save_for_backward(output[1], src, ptr, edge_weight, *by_src)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Any, ...]:
    winner, src, ptr, edge_weight, *by_src = ctx.saved_tensors
    backward: Callable[..., Tensor] = _gradient_operator
    if transformed(grad):
        backward = _plain_backward
    elif not torch.is_grad_enabled() and unobserved(grad):
        backward = _gradient
    grad_x = backward(
        grad.contiguous(), winner, src, ptr, ctx.reduce, edge_weight, ctx.num_src, *by_src
    )
    return grad_x, *[None] * 8


_pool_operator.register_autograd(_backward, setup_context=_setup_context)
differentiable(_gradient_operator, _plain_backward, operands=1)
_knn_pool = directly(_pool_operator, _forward, _setup_context, _backward, operands=(0,))


@register_flop_formula(torch.ops.fovigraph.knn_pool)  # type: ignore[untyped-decorator]
def _(x: Any, src: Any, *_: Any, **__: Any) -> int:
    """Count one operation for every edge and channel."""
    return int(x[0] * src[0] * x[2])
