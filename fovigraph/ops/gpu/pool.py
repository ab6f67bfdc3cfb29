"""Pooling kernels: the maximum with its winner, and gradients that gather instead of scattering."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fovigraph.ops.gpu import winner_dtype
from fovigraph.ops.gpu.launch import launch
from fovigraph.ops.gpu.reduce import Tile, gather_sum, row_and_tile


def pool(
    x: Tensor, src: Tensor, ptr: Tensor, reduce: str, edge_weight: Tensor | None, most: int | None
) -> tuple[Tensor, Tensor]:
    """Reduce the features of every destination's neighbours, on a GPU.

    Args:
        x: ``[B, num_src, C]``, with any strides.
        src: Sources of the edges by destination, ``[E]``.
        ptr: Where each destination's edges begin, ``[num_dst + 1]``.
        reduce: ``"max"``, ``"mean"`` or ``"sum"``.
        edge_weight: Factors in a sum, ``[E]``.
        most: The most neighbours that a destination has, if known.

    Returns:
        ``[B, num_dst, C]``, and for a maximum, of the same shape, which neighbour won: its place
        among the destination's edges. Where these are more than ``most`` promised, and too many for
        the places to be told apart, the maximum is not a number.
    """
    if reduce != "max":
        weight = None if edge_weight is None else edge_weight.contiguous()
        out = gather_sum(x, src, ptr, weight, mean=reduce == "mean" and weight is None)
        return out, x.new_empty(0, dtype=winner_dtype(most))
    batch, channels, rows = len(x), x.shape[2], len(ptr) - 1
    out = x.new_empty(batch, rows, channels)
    winner = torch.empty_like(out, dtype=winner_dtype(most))
    tile = Tile.of(x, rows, batch, channels)
    launch(
        gather_max_kernel,
        tile.per_row * rows,
        *(x, out, winner, src, ptr),
        *(batch, rows, channels),
        *x.stride(),
        PLACES=torch.iinfo(winner.dtype).max + 1,
        BLOCK_B=tile.block_b,
        BLOCK_C=tile.block_c,
    )
    return out, winner


def pool_backward(
    grad: Tensor,
    winner: Tensor,
    ptr: Tensor,
    reduce: str,
    edge_weight: Tensor | None,
    dst_by_src: Tensor,
    edge_by_src: Tensor,
    ptr_by_src: Tensor,
) -> Tensor:
    """Return the gradient ``[B, num_src, C]`` of what :func:`pool` was given.

    Args:
        grad: Of its output, ``[B, num_dst, C]``, with any strides.
        winner: What it returned beside that.
        ptr, reduce, edge_weight: As it got them.
        dst_by_src, edge_by_src: Destinations of the edges by source, and their places in the order
            by destination, ``[E]``.
        ptr_by_src: Where each source's edges begin, ``[num_src + 1]``.
    """
    if reduce != "max":
        if edge_weight is not None:
            weight, key = edge_weight.contiguous(), edge_by_src
        elif reduce == "mean":
            weight, key = ptr.diff().clamp(min=1).float().reciprocal(), dst_by_src
        else:
            weight, key = None, None
        return gather_sum(grad, dst_by_src, ptr_by_src, weight, key)
    batch, channels, rows = len(grad), grad.shape[2], len(ptr_by_src) - 1
    out = grad.new_empty(batch, rows, channels)
    tile = Tile.of(grad, rows, batch, channels)
    launch(
        gather_won_kernel,
        tile.per_row * rows,
        *(grad, winner, out, dst_by_src, edge_by_src, ptr_by_src, ptr),
        *(batch, rows, channels, grad.shape[1]),
        *grad.stride(),
        BLOCK_B=tile.block_b,
        BLOCK_C=tile.block_c,
    )
    return out


# fmt: off
@triton.jit
def gather_max_kernel(
    x, out, winner, node, ptr,
    batch, rows, channels,
    x_batch, x_node, x_channel,  # strides
    PLACES: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_C: tl.constexpr,
):
    # fmt: on
    row, b, c, ok = row_and_tile(rows, batch, channels, BLOCK_B, BLOCK_C)
    begin = tl.load(ptr + row)
    edges = tl.load(ptr + row + 1) - begin
    countable = edges <= PLACES
    edges = edges.to(tl.int32)
    x_tile = x + (b * x_batch)[:, None] + (c * x_channel)[None, :]
    best = tl.full((BLOCK_B, BLOCK_C), float("-inf"), dtype=tl.float32)
    place = tl.zeros((BLOCK_B, BLOCK_C), dtype=tl.int32)
    for i in tl.range(0, edges, loop_unroll_factor=4):
        value = tl.load(x_tile + tl.load(node + begin + i) * x_node, mask=ok, other=0.0)
        value = value.to(tl.float32)
        # The first of equals, as no later one is better; and the first that is not a number.
        better = (value > best) | ((value != value) & (best == best))
        best = tl.where(better, value, best)
        place = tl.where(better, i, place)
    best = tl.where(edges > 0, best, 0.0)
    best = tl.where(countable, best, float("nan"))
    to = (b * rows + row)[:, None] * channels + c[None, :]
    tl.store(out + to, best.to(out.dtype.element_ty), mask=ok)
    tl.store(winner + to, place.to(winner.dtype.element_ty), mask=ok)


# fmt: off
@triton.jit
def gather_won_kernel(
    grad, winner, out, node, edge, ptr, node_ptr,
    batch, rows, channels, nodes,
    g_batch, g_node, g_channel,  # strides
    BLOCK_B: tl.constexpr, BLOCK_C: tl.constexpr,
):
    # fmt: on
    row, b, c, ok = row_and_tile(rows, batch, channels, BLOCK_B, BLOCK_C)
    begin = tl.load(ptr + row)
    edges = (tl.load(ptr + row + 1) - begin).to(tl.int32)
    g_tile = grad + (b * g_batch)[:, None] + (c * g_channel)[None, :]
    w_tile = winner + (b * nodes)[:, None] * channels + c[None, :]
    acc = tl.zeros((BLOCK_B, BLOCK_C), dtype=tl.float32)
    for i in tl.range(0, edges, loop_unroll_factor=4):
        of = tl.load(node + begin + i)
        place = tl.load(edge + begin + i) - tl.load(node_ptr + of)
        won = tl.load(w_tile + of * channels, mask=ok, other=0).to(tl.int32) == place.to(tl.int32)
        value = tl.load(g_tile + of * g_node, mask=ok, other=0.0)
        acc += tl.where(won, value.to(tl.float32), 0.0)
    to = (b * rows + row)[:, None] * channels + c[None, :]
    tl.store(out + to, acc.to(out.dtype.element_ty), mask=ok)
