"""The weight gradient of a kNN convolution: sums of outer products, in one of two orders.

- *By cell*: a program makes one tile of one cell's gradient and walks through the cell's triples
  and the batch. Every triple reads its features and its gradients.
- *By node*, for few input channels, where that would read the many gradients once for every
  neighbour to multiply them with hardly anything: a program stays with one destination, reads its
  gradients once for all neighbours, and stores one product per triple, ``[E, C · O]``. These are
  then summed by cell. Only so many output channels at a time as keep that list small.

Both add up in a fixed order, without atomics.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fovigraph.graph.kernel_map import Triples
from fovigraph.ops.gpu.conv import FEW
from fovigraph.ops.gpu.launch import (
    Dot,
    check_counts,
    chip,
    launch,
    power_of_two,
    stages,
    tiles,
    warps,
)
from fovigraph.ops.gpu.reduce import gather_sum

LITTLE = 1 << 25
"""Bytes that a temporary may always have; more, only in proportion to features and gradients."""


def gather_outer(x: Tensor, grad: Tensor, by_dst: Triples, by_cell: Triples) -> Tensor:
    """Sum ``x[src]ᵀ @ grad[dst]`` into every kernel cell, on a GPU.

    Args:
        x: ``[B, num_src, C]``, with any strides.
        grad: ``[B, num_dst, O]``, with any strides.
        by_dst, by_cell: The triples, sorted both ways.

    Returns:
        ``[num_cells, C, O]``.
    """
    # Products cost 8 bytes per triple, channel and output; what they save are the gradients that
    # each triple would read, of all the batch, where the second-level cache does not hold them.
    channels, saved = x.shape[2], len(x) * x.element_size()
    cached = 2 * grad.numel() * grad.element_size() <= chip(x.device).cache_bytes
    if channels < FEW and saved > 8 * channels and not cached:
        return _by_node(x, grad, by_dst, by_cell)
    return _by_cell(x, grad, by_cell)


def _spare_bytes(x: Tensor, grad: Tensor) -> int:
    return max(LITTLE, (x.numel() + grad.numel()) * x.element_size() // 2)


def _by_cell(x: Tensor, grad: Tensor, by_cell: Triples) -> Tensor:
    (batch, _, channels), out_channels = x.shape, grad.shape[2]
    cells, edges = len(by_cell.ptr) - 1, len(by_cell.cell)
    dot, gpu = Dot.of(x), chip(x.device)
    block_c = power_of_two(channels, 16, dot.side)
    block_o = power_of_two(out_channels, 16, 128)
    flat = tiles(batch, dot.step) * dot.step > 1.25 * batch
    check_counts("steps", edges * (batch if flat else tiles(batch, dot.step)))
    programs = cells * tiles(channels, block_c) * tiles(out_channels, block_o)

    # Few programs: several share a sum. Each keeps its part, as the order of the whole must not
    # depend on which is first.
    wanted = tiles(4 * gpu.processors, max(1, programs))
    steps = edges * batch // max(1, cells * dot.step)
    room = _spare_bytes(x, grad) // max(1, 4 * cells * channels * out_channels)
    parts = max(1, min(wanted, steps // 4, room))
    dtype = x.dtype if parts == 1 else torch.float32
    out = x.new_empty(parts, cells, channels, out_channels, dtype=dtype)
    launch(
        cell_outer_kernel,
        programs * parts,
        *(x, grad, out, by_cell.src, by_cell.dst, by_cell.ptr),
        *(batch, cells, channels, out_channels, parts),
        *(*x.stride(), *grad.stride()),
        FLAT=flat,
        PRECISION=dot.precision,
        BLOCK_C=block_c,
        BLOCK_O=block_o,
        BLOCK_K=dot.step,
        num_warps=warps(gpu, block_c * block_o),
        num_stages=stages(gpu, dot, block_c, block_o, dot.step, indirect=True),
    )
    return out[0] if parts == 1 else out.sum(0).to(x.dtype)


def _by_node(x: Tensor, grad: Tensor, by_dst: Triples, by_cell: Triples) -> Tensor:
    batch, channels, out_channels = len(x), x.shape[2], grad.shape[2]
    rows, edges, cells = len(by_dst.ptr) - 1, len(by_dst.src), len(by_cell.ptr) - 1
    check_counts("edges times channels", edges * channels)
    dot, gpu = Dot.of(x), chip(x.device)
    x = x.permute(1, 2, 0).contiguous().permute(2, 0, 1)  # the contraction is over the batch
    block_m = power_of_two(tiles(edges * channels, max(1, rows)), 16, dot.side)
    per_row = tiles(tiles(edges * channels, max(1, rows)), block_m)
    out = grad.new_empty(cells, channels, out_channels)
    width = max(16, _spare_bytes(x, grad) // max(1, 4 * edges * channels))
    width = 1 << width.bit_length() - 1
    for start in range(0, out_channels, width):
        some = grad[..., start : start + width]
        columns = some.shape[2]
        block_o, block_k = power_of_two(columns, 16, 128), power_of_two(batch, 16, dot.step)
        products = x.new_empty(1, edges, channels * columns, dtype=torch.float32)
        launch(
            node_outer_kernel,
            rows * per_row * tiles(columns, block_o),
            *(x, some, products, by_dst.src, by_dst.ptr),
            *(batch, columns, per_row),
            *(*x.stride(), *some.stride()),
            CHANNELS=channels,
            PRECISION=dot.precision,
            BLOCK_M=block_m,
            BLOCK_O=block_o,
            BLOCK_K=block_k,
            num_warps=warps(gpu, block_m * block_o),
            num_stages=stages(gpu, dot, block_m, block_o, block_k, indirect=False),
        )
        summed = gather_sum(products, by_cell.edge, by_cell.ptr)
        out[..., start : start + width] = summed.view(cells, channels, columns)
    return out


# fmt: off
@triton.jit(do_not_specialize=["batch"])
def cell_outer_kernel(
    x, grad, out, src, dst, ptr,
    batch, cells, channels, out_channels, parts,
    x_batch, x_node, x_channel, g_batch, g_node, g_channel,  # strides
    FLAT: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_K: tl.constexpr,
):
    # fmt: on
    o_tiles = tl.cdiv(out_channels, BLOCK_O)
    c_tiles = tl.cdiv(channels, BLOCK_C)
    pid = tl.program_id(0)
    o = pid % o_tiles * BLOCK_O + tl.arange(0, BLOCK_O)
    c = pid // o_tiles % c_tiles * BLOCK_C + tl.arange(0, BLOCK_C)
    cell = pid // (o_tiles * c_tiles) % cells
    part = pid // (o_tiles * c_tiles * cells)
    o_ok, c_ok = o < out_channels, c < channels

    begin = tl.load(ptr + cell)
    edges = (tl.load(ptr + cell + 1) - begin).to(tl.int32)
    k = tl.arange(0, BLOCK_K)
    if FLAT:  # one axis of (edge, batch): small batches
        steps = tl.cdiv(edges * batch, BLOCK_K)
    else:  # a step has one edge and takes some of the batch; all edges before more of the batch,
        steps = edges * tl.cdiv(batch, BLOCK_K)  # so all programs read the same part of it
    first = (steps.to(tl.int64) * part // parts).to(tl.int32)
    last = (steps.to(tl.int64) * (part + 1) // parts).to(tl.int32)
    x_c = x + (c.to(tl.int64) * x_channel)[None, :]
    g_o = grad + (o.to(tl.int64) * g_channel)[None, :]
    x_k, g_k = k.to(tl.int64) * x_batch, k.to(tl.int64) * g_batch
    acc = tl.zeros((BLOCK_C, BLOCK_O), dtype=tl.float32)
    for i in range(last - first):
        step = first + i
        if FLAT:
            at = step * BLOCK_K + k
            k_ok = at < edges * batch
            of = at.to(tl.uint32) // batch.to(tl.uint32)
            edge, b = begin + of, (at - of * batch).to(tl.int64)
            x_at = tl.load(src + edge, mask=k_ok, other=0) * x_node + b * x_batch
            g_at = tl.load(dst + edge, mask=k_ok, other=0) * g_node + b * g_batch
        else:
            start = step.to(tl.uint32) // edges.to(tl.uint32)
            edge = begin + (step - start * edges)
            start = start.to(tl.int64) * BLOCK_K
            k_ok = start + k < batch
            x_at = tl.load(src + edge) * x_node + start * x_batch + x_k
            g_at = tl.load(dst + edge) * g_node + start * g_batch + g_k
        x_t = tl.load(x_c + x_at[:, None], mask=k_ok[:, None] & c_ok[None, :], other=0.0)
        g_t = tl.load(g_o + g_at[:, None], mask=k_ok[:, None] & o_ok[None, :], other=0.0)
        acc = tl.dot(tl.trans(x_t), g_t, acc, input_precision=PRECISION)

    to = ((part.to(tl.int64) * cells + cell) * channels + c)[:, None] * out_channels + o[None, :]
    tl.store(out + to, acc.to(out.dtype.element_ty), mask=c_ok[:, None] & o_ok[None, :])


# fmt: off
@triton.jit
def node_outer_kernel(
    x, grad, out, src, ptr,
    batch, out_channels, per_row,
    x_batch, x_node, x_channel, g_batch, g_node, g_channel,  # strides
    CHANNELS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_K: tl.constexpr,
):
    # fmt: on
    o_tiles = tl.cdiv(out_channels, BLOCK_O)
    pid = tl.program_id(0)
    o = pid % o_tiles * BLOCK_O + tl.arange(0, BLOCK_O)
    turn = pid // o_tiles % per_row
    row = (pid // (o_tiles * per_row)).to(tl.int64)
    o_ok = o < out_channels
    begin = tl.load(ptr + row)
    size = (tl.load(ptr + row + 1) - begin).to(tl.int32) * CHANNELS
    g_o = grad + (o.to(tl.int64) * g_channel)[None, :]
    k = tl.arange(0, BLOCK_K)
    for start in range(turn * BLOCK_M, size, per_row * BLOCK_M):
        m = start + tl.arange(0, BLOCK_M)  # one axis of (neighbour, channel)
        m_ok = m < size
        node = tl.load(src + begin + m // CHANNELS, mask=m_ok, other=0)
        x_m = x + (node * x_node + (m % CHANNELS).to(tl.int64) * x_channel)[:, None]
        acc = tl.zeros((BLOCK_M, BLOCK_O), dtype=tl.float32)
        for b_start in range(0, batch, BLOCK_K):
            b_ok = b_start + k < batch
            b = (b_start + k).to(tl.int64)
            x_at = (b * x_batch)[None, :]
            x_k = tl.load(x_m + x_at, mask=m_ok[:, None] & b_ok[None, :], other=0.0)
            g_at = (b * g_batch + row * g_node)[:, None]
            g_k = tl.load(g_o + g_at, mask=b_ok[:, None] & o_ok[None, :], other=0.0)
            acc = tl.dot(x_k, g_k, acc, input_precision=PRECISION)
        to = (begin * CHANNELS + m)[:, None] * out_channels + o[None, :]
        tl.store(out + to, acc, mask=m_ok[:, None] & o_ok[None, :])
