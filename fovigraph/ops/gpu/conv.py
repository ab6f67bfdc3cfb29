"""The gather–GEMM kernel: forward pass and input gradient of a kNN convolution.

One program makes one tile of one row of the result: a row (a destination; for the input gradient
a source, its edges turned round), some of the batch, some output channels. It walks through the
row's triples and, within each, through the channels, and multiplies what it gathers.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from fovigraph.graph.kernel_map import Triples
from fovigraph.ops.gpu.launch import (
    Chip,
    Dot,
    check_counts,
    chip,
    launch,
    power_of_two,
    stages,
    tiles,
    warps,
)
from fovigraph.ops.rows import finish

FEW = 12
"""Fewer channels than this do not fill a step of the contraction, which is 16 long or more."""


def gather_gemm(
    x: Tensor,
    weight: Tensor,
    by_row: Triples,
    bias: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """Sum ``x[src] @ weight[cell]`` into every destination, on a GPU.

    Args:
        x: ``[B, num_src, C]``, with any strides.
        weight: ``[num_cells, C, O]``, with any strides.
        by_row: The triples by destination.
        bias: ``[O]``, added to the sums before they are rounded and stored.
        relu: Whether to store zero for what is then negative.

    Returns:
        ``[B, num_dst, O]``.
    """
    (batch, nodes, channels), out_channels = x.shape, weight.shape[2]
    rows, edges = len(by_row.ptr) - 1, len(by_row.src)
    out = x.new_empty(batch, rows, out_channels)
    check_counts("edges times channels", edges * channels)
    if not channels:
        return finish(out.zero_(), bias, relu)
    dot = Dot.of(x)
    plan = make_plan(chip(x.device), dot, batch, nodes, channels, rows, edges, out_channels)
    if plan.across and batch >= 16:  # so that reading along the batch is contiguous: few channels,
        x = x.permute(1, 2, 0).contiguous().permute(2, 0, 1)  # so this copy is small
    stride = max(x.stride(2), weight.stride(1))
    check_counts("channels times their stride", (channels - 1) * stride)
    launch(
        gather_gemm_kernel,
        tiles(batch, plan.block_b) * rows * tiles(out_channels, plan.block_o),
        *(x, weight, out, by_row.src, by_row.cell, by_row.ptr),
        None if bias is None else bias.contiguous(),
        *(batch, rows, out_channels, plan.together),
        *(*x.stride(), *weight.stride()),
        CHANNELS=channels,
        RELU=relu,
        ACROSS=plan.across,
        PRECISION=dot.precision,
        BLOCK_B=plan.block_b,
        BLOCK_O=plan.block_o,
        BLOCK_K=plan.block_k,
        num_warps=plan.warps,
        num_stages=plan.stages,
    )
    return out


class Plan(NamedTuple):
    """How the work is cut up."""

    block_b: int
    block_o: int
    block_k: int
    across: bool
    """Whether a step takes one channel of many neighbours, not many channels of one."""
    together: int
    """Tiles of the batch whose programs take turns at a row, sharing its weights."""
    warps: int
    stages: int


@cache
def make_plan(
    gpu: Chip,
    dot: Dot,
    batch: int,
    nodes: int,
    channels: int,
    rows: int,
    edges: int,
    out_channels: int,
) -> Plan:
    """Choose a plan by shape.

    A tile is as large as the sums it keeps in registers allow (each of its operands is then read
    least often), smaller where the chip would not fill. A step of the contraction covers 128 bytes
    of features, or twice that in small tiles, whose time goes in waiting.
    """
    block_b = power_of_two(batch, 16, dot.side)
    block_o = power_of_two(out_channels, 16, 128)
    if gpu.reads_shared and dot.size == 2 and block_b == 128 and out_channels % 256 == 0:
        block_o = 256

    def programs() -> int:
        return tiles(batch, block_b) * rows * tiles(out_channels, block_o)

    while programs() < 2 * gpu.processors and block_o > 32:
        block_o //= 2
    while programs() < 2 * gpu.processors and block_b > 64:
        block_b //= 2

    across = channels < FEW
    area = block_b * block_o
    most = dot.step * (2 if area <= 2048 else 1)
    block_k = _contraction_block(edges // max(1, rows) if across else channels, most)
    features = max(1, nodes * channels * block_b * dot.size)  # of one tile of the batch, in bytes
    return Plan(
        block_b,
        block_o,
        block_k,
        across,
        together=max(1, min(tiles(batch, block_b), gpu.cache_bytes // 4 // features)),
        warps=warps(gpu, area),
        stages=stages(gpu, dot, block_b, block_o, block_k, indirect=True),
    )


def _contraction_block(length: int, most: int) -> int:
    """Choose a power of two from 16 to ``most``: a step costs its length, and 16 for itself."""
    blocks = [block for block in (128, 64, 32, 16) if block <= most]
    return min(blocks, key=lambda block: tiles(length, block) * (block + 16))


# fmt: off
@triton.jit
def gather_gemm_kernel(
    x, weight, out, node, cell, ptr, bias,
    batch, rows, out_channels, together,
    x_batch, x_node, x_channel, w_cell, w_in, w_out,  # strides
    CHANNELS: tl.constexpr, RELU: tl.constexpr, ACROSS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_B: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_K: tl.constexpr,
):
    # fmt: on
    # Which tile: `together` tiles of the batch share a row's weights in cache, while the rows, one
    # after the other, share these tiles' features; only then come the next tiles of the batch.
    o_tiles = tl.cdiv(out_channels, BLOCK_O)
    pid = tl.program_id(0)
    group = pid // (together * rows * o_tiles)
    within = pid % (together * rows * o_tiles)
    group_size = min(tl.cdiv(batch, BLOCK_B) - group * together, together)
    row = within // (o_tiles * group_size)
    b = (group * together + within // o_tiles % group_size) * BLOCK_B + tl.arange(0, BLOCK_B)
    o = within % o_tiles * BLOCK_O + tl.arange(0, BLOCK_O)
    b_ok, o_ok = b < batch, o < out_channels
    k = tl.arange(0, BLOCK_K)
    b, o_at, k_at = b.to(tl.int64), o.to(tl.int64) * w_out, k.to(tl.int64)

    begin = tl.load(ptr + row)
    edges = (tl.load(ptr + row + 1) - begin).to(tl.int32)
    acc = tl.zeros((BLOCK_B, BLOCK_O), dtype=tl.float32)
    if ACROSS:  # a step takes one channel of many neighbours: few channels
        x_rows, w_columns = x + (b * x_batch)[:, None], weight + o_at[None, :]
        for step in range(tl.cdiv(edges, BLOCK_K) * CHANNELS):
            near, c = step // CHANNELS * BLOCK_K + k, step % CHANNELS
            k_ok = near < edges
            x_at = tl.load(node + begin + near, mask=k_ok, other=0) * x_node + c * x_channel
            w_at = tl.load(cell + begin + near, mask=k_ok, other=0) * w_cell + c * w_in
            x_k = tl.load(x_rows + x_at[None, :], mask=b_ok[:, None] & k_ok[None, :], other=0.0)
            w_k = tl.load(w_columns + w_at[:, None], mask=k_ok[:, None] & o_ok[None, :], other=0.0)
            acc = tl.dot(x_k, w_k, acc, input_precision=PRECISION)
    else:  # a step takes some channels of one neighbour
        STEPS: tl.constexpr = (CHANNELS + BLOCK_K - 1) // BLOCK_K
        x_tile = x + (b * x_batch)[:, None] + (k_at * x_channel)[None, :]
        w_tile = weight + (k_at * w_in)[:, None] + o_at[None, :]
        for step in range(edges * STEPS):
            edge, start = begin + step // STEPS, step % STEPS * BLOCK_K
            x_ok, w_ok = b_ok[:, None], o_ok[None, :]
            if CHANNELS % BLOCK_K != 0:
                x_ok &= (start + k < CHANNELS)[None, :]
                w_ok &= (start + k < CHANNELS)[:, None]
            x_at = tl.load(node + edge) * x_node + start * x_channel
            w_at = tl.load(cell + edge) * w_cell + start * w_in
            x_k = tl.load(x_tile + x_at, mask=x_ok, other=0.0)
            w_k = tl.load(w_tile + w_at, mask=w_ok, other=0.0)
            acc = tl.dot(x_k, w_k, acc, input_precision=PRECISION)

    if bias is not None:
        acc += tl.load(bias + o, mask=o_ok, other=0.0).to(tl.float32)[None, :]
    if RELU:
        acc = tl.maximum(acc, 0.0, propagate_nan=tl.PropagateNan.ALL)
    at = (b * rows + row)[:, None] * out_channels + o[None, :]
    tl.store(out + at, acc.to(out.dtype.element_ty), mask=b_ok[:, None] & o_ok[None, :])
