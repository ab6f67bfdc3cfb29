"""Gather–reduce kernels: what pooling and depthwise convolution are made of.

A row of the result (a node, or a kernel cell) gathers and sums, channel by channel. Nothing is
multiplied with a matrix, so all that counts is reading: tiles are a few vectors per thread, and
programs that run together share features in cache.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from fovigraph.graph.kernel_map import Triples
from fovigraph.ops.gpu.launch import check_counts, chip, launch, power_of_two, tiles


class Tile(NamedTuple):
    """A tile of batch × channels, and how many of them make one row."""

    block_b: int
    block_c: int
    per_row: int

    @classmethod
    def of(cls, x: Tensor, rows: int, batch: int, channels: int) -> Tile:
        """Choose a tile: 8 numbers per thread, fewer where the chip would not fill."""
        area = 1024
        while True:
            block_c = power_of_two(channels, 1, min(256, area))
            block_b = power_of_two(batch, 1, area // block_c)
            per_row = tiles(batch, block_b) * tiles(channels, block_c)
            if area == 128 or rows * per_row >= 4 * chip(x.device).processors:
                return cls(block_b, block_c, per_row)
            area //= 2


def gather_sum(
    x: Tensor,
    node: Tensor,
    ptr: Tensor,
    weight: Tensor | None = None,
    key: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    relu: bool = False,
    mean: bool = False,
    spread: int = 1,
    fold: int = 1,
) -> Tensor:
    """Sum the features of every row's nodes, weighted or not.

    Args:
        x: Features ``[B, N, C]``, with any strides.
        node: Node of every edge, ``[E]``, sorted into rows.
        ptr: Where each row begins, ``[rows + 1]``.
        weight: ``[keys]`` or ``[keys, channels]`` (contiguous): the factor of an edge.
        key: Which row of ``weight`` an edge takes, ``[E]``; by default its own.
        bias: Added to every row, ``[channels]``.
        relu: Whether to store zero for what is then negative.
        mean: Whether to divide by the number of edges.
        spread: Outputs that every channel of ``x`` leads to, each with a weight of its own.
        fold: Neighbouring channels of ``x`` that are summed, each with a weight of its own.

    Returns:
        ``[B, rows, C · spread / fold]``; the bias, or zero, for an empty row.
    """
    batch, channels, rows = len(x), x.shape[2] * spread // fold, len(ptr) - 1
    out = x.new_empty(batch, rows, channels)
    tile = Tile.of(x, rows, batch, channels)
    launch(
        gather_sum_kernel,
        tile.per_row * rows,
        *(x, out, node, ptr, weight, key, None if bias is None else bias.contiguous()),
        *(batch, rows, channels),
        *x.stride(),
        PER_CHANNEL=weight is not None and weight.dim() == 2,
        MEAN=mean,
        RELU=relu,
        SPREAD=spread,
        FOLD=fold,
        BLOCK_B=tile.block_b,
        BLOCK_C=tile.block_c,
    )
    return out


def gather_channels(
    x: Tensor,
    weight: Tensor,
    by_row: Triples,
    bias: Tensor | None = None,
    relu: bool = False,
    *,
    back: bool = False,
) -> Tensor:
    """Convolve every channel by itself: sum ``x[src] · weight[cell]`` into every destination.

    Args:
        x: ``[B, num_src, C]``; for the gradient ``[B, num_src, C · M]``, with any strides.
        weight: ``[num_cells, C, M]``, with any strides.
        by_row: The triples by destination.
        bias: Added to every output, ``[C · M]``.
        relu: Whether what is then negative becomes zero.
        back: Whether this is the input gradient, the edges turned round.

    Returns:
        ``[B, num_dst, C · M]``; for the gradient ``[B, num_dst, C]``.
    """
    spread, fold = (1, weight.shape[2]) if back else (weight.shape[2], 1)
    factor = weight.flatten(1).contiguous()
    rows, cells = (by_row.src, by_row.ptr), by_row.cell
    return gather_sum(x, *rows, factor, cells, bias, relu=relu, spread=spread, fold=fold)


def gather_product(x: Tensor, grad: Tensor, by_cell: Triples) -> Tensor:
    """Sum ``x[src] · grad[dst]`` into every kernel cell, channel by channel.

    Args:
        x: ``[B, num_src, C]``, with any strides.
        grad: ``[B, num_dst, C · M]``, with any strides.
        by_cell: The triples by cell.

    Returns:
        ``[num_cells, C, M]``.
    """
    batch, channels = len(x), grad.shape[2]
    cells, edges = len(by_cell.ptr) - 1, len(by_cell.cell)
    tile = Tile.of(x, cells, batch, channels)
    c_tiles = tiles(channels, tile.block_c)
    steps = edges * tiles(batch, tile.block_b) // max(1, cells)
    check_counts("steps", edges * tiles(batch, tile.block_b))
    wanted = tiles(8 * chip(x.device).processors, max(1, cells * c_tiles))
    parts = max(1, min(wanted, steps // 8))
    out = x.new_empty(parts, cells, channels, dtype=torch.float32)
    launch(
        gather_product_kernel,
        parts * cells * c_tiles,
        *(x, grad, out, by_cell.src, by_cell.dst, by_cell.ptr),
        *(batch, cells, channels, parts),
        *(*x.stride(), *grad.stride()),
        SPREAD=channels // max(1, x.shape[2]),
        BLOCK_B=tile.block_b,
        BLOCK_C=tile.block_c,
    )
    return out.sum(0).to(x.dtype).view(cells, x.shape[2], -1)


# fmt: off
@triton.jit
def gather_sum_kernel(
    x, out, node, ptr, weight, key, bias,
    batch, rows, channels,
    x_batch, x_node, x_channel,  # strides
    PER_CHANNEL: tl.constexpr, MEAN: tl.constexpr, RELU: tl.constexpr,
    SPREAD: tl.constexpr, FOLD: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_C: tl.constexpr,
):
    # fmt: on
    row, b, c, ok = row_and_tile(rows, batch, channels, BLOCK_B, BLOCK_C)
    begin = tl.load(ptr + row)
    edges = (tl.load(ptr + row + 1) - begin).to(tl.int32)
    x_rows = x + (b * x_batch)[:, None]
    acc = tl.zeros((BLOCK_B, BLOCK_C), dtype=tl.float32)
    for i in tl.range(0, edges, loop_unroll_factor=4):
        at = tl.load(node + begin + i) * x_node
        for f in tl.static_range(FOLD):
            c_in = c * FOLD + f
            value = tl.load(x_rows + (at + c_in // SPREAD * x_channel)[None, :], mask=ok, other=0.0)
            value = value.to(tl.float32)
            if weight is not None:
                of = begin + i
                if key is not None:
                    of = tl.load(key + of)
                if PER_CHANNEL:  # read for every element: cheaper than passing it among threads
                    w_at = tl.broadcast_to((of * channels * FOLD + c_in)[None, :], ok.shape)
                    value *= tl.load(weight + w_at, mask=ok, other=0.0).to(tl.float32)
                else:
                    value *= tl.load(weight + of).to(tl.float32)
            acc += value
    if MEAN:
        acc /= tl.maximum(edges, 1).to(tl.float32)
    if bias is not None:
        acc += tl.load(bias + c, mask=c < channels, other=0.0).to(tl.float32)[None, :]
    if RELU:
        acc = tl.maximum(acc, 0.0, propagate_nan=tl.PropagateNan.ALL)
    to = (b * rows + row)[:, None] * channels + c[None, :]
    tl.store(out + to, acc.to(out.dtype.element_ty), mask=ok)


# fmt: off
@triton.jit
def gather_product_kernel(
    x, grad, out, src, dst, ptr,
    batch, cells, channels, parts,
    x_batch, x_node, x_channel, g_batch, g_node, g_channel,  # strides
    SPREAD: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_C: tl.constexpr,
):
    # fmt: on
    c_tiles = tl.cdiv(channels, BLOCK_C)
    pid = tl.program_id(0)
    c = (pid % c_tiles * BLOCK_C + tl.arange(0, BLOCK_C)).to(tl.int64)
    cell = pid // c_tiles % cells
    part = pid // (c_tiles * cells)
    c_ok = c < channels
    begin = tl.load(ptr + cell)
    edges = (tl.load(ptr + cell + 1) - begin).to(tl.int32)
    steps = edges.to(tl.int64) * tl.cdiv(batch, BLOCK_B)
    acc = tl.zeros((BLOCK_B, BLOCK_C), dtype=tl.float32)
    first, last = (steps * part // parts).to(tl.int32), (steps * (part + 1) // parts).to(tl.int32)
    for i in tl.range(0, last - first, loop_unroll_factor=4):
        step = first + i
        start = step.to(tl.uint32) // edges.to(tl.uint32)
        edge = begin + (step - start * edges)
        b = start.to(tl.int64) * BLOCK_B + tl.arange(0, BLOCK_B)
        ok = (b < batch)[:, None] & c_ok[None, :]
        x_at = b * x_batch + tl.load(src + edge) * x_node
        g_at = b * g_batch + tl.load(dst + edge) * g_node
        x_b = tl.load(x + x_at[:, None] + (c // SPREAD * x_channel)[None, :], mask=ok, other=0.0)
        g_b = tl.load(grad + g_at[:, None] + (c * g_channel)[None, :], mask=ok, other=0.0)
        acc += x_b.to(tl.float32) * g_b.to(tl.float32)
    to = (part.to(tl.int64) * cells + cell) * channels + c
    tl.store(out + to, tl.sum(acc, axis=0), mask=c_ok)


@triton.jit
def row_and_tile(rows, batch, channels, BLOCK_B: tl.constexpr, BLOCK_C: tl.constexpr):
    """Which row and which tile of (batch, channels) a program makes.

    Rows run fastest but for the tiles of channels: together they need few of the batch's features,
    which stay in cache.
    """
    c_tiles = tl.cdiv(channels, BLOCK_C)
    pid = tl.program_id(0)
    c = pid % c_tiles * BLOCK_C + tl.arange(0, BLOCK_C)
    row = pid // c_tiles % rows
    b = pid // (c_tiles * rows) * BLOCK_B + tl.arange(0, BLOCK_B)
    ok = (b < batch)[:, None] & (c < channels)[None, :]
    return row, b.to(tl.int64), c.to(tl.int64), ok
