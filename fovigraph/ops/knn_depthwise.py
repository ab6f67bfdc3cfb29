"""Depthwise kNN convolution over a kernel map: every channel by itself.

With X ``[B, src, C]`` and W ``[cells, C, M]`` (M outputs a channel),

    forward          Y[dst, c·M + m] = Σ X[src, c] · W[cell, c, m]
    input gradient   dX[src, c]      = Σ dY[dst, c·M + m] · W[cell, c, m]
    weight gradient  dW[cell, c, m]  = Σ X[src, c] · dY[dst, c·M + m]

On a GPU the kernels of :mod:`fovigraph.ops.gpu` do these sums. Elsewhere,

- with few outputs a channel, forward pass and input gradient are what ``embedding_bag`` computes:
  sums of weighted rows, a bag of them for every output and destination, a row being all the batch.
  Nothing gathered is stored. The weight gradient gathers and multiplies cell by cell.
- with many outputs a channel, every channel is a full convolution of one channel
  (:mod:`fovigraph.ops.knn_conv`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import embedding_bag

from fovigraph.graph import KernelMap
from fovigraph.graph.kernel_map import Triples
from fovigraph.ops import gpu, plain
from fovigraph.ops.knn_conv import gather_gemm, gather_outer, three_ways, unpack
from fovigraph.ops.operands import operands
from fovigraph.ops.registration import register_conv
from fovigraph.ops.rows import CHUNK, chunks, finish, node_rows, sum_dtype
from fovigraph.ops.transforms import transformed

MANY = 8
"""Outputs a channel from which on a full convolution of each channel is faster."""


def knn_depthwise_conv(
    x: Float[Tensor, "*batch N C"],
    weight: Float[Tensor, "cells C multiplier"],
    kernel_map: KernelMap,
    bias: Float[Tensor, " C*multiplier"] | None = None,
    relu: bool = False,
) -> Float[Tensor, "*batch M C*multiplier"]:
    """Convolve every channel of node features by itself over a kernel map.

    Args:
        x: Features of the sources, ``[*, num_src, C]``.
        weight: ``[num_cells, C, M]``.
        kernel_map: The triples (dst, src, cell).
        bias: Added to every output, ``[C · M]``.
        relu: Whether what is then negative becomes zero.

    Returns:
        Features of the destinations, ``[*, num_dst, C · M]``.

    Raises:
        ValueError, TypeError: If the arguments differ in device or dtype, or do not fit in size.
    """
    x, weight, bias = operands(x, weight, bias, kernel_map, relu, depthwise=True)
    if transformed():
        return plain.depthwise(x, weight, kernel_map.by_dst, kernel_map.num_dst, bias, relu)
    flat = x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])
    rows = three_ways(kernel_map)
    out = _knn_depthwise_conv(flat, weight, rows, None, bias, kernel_map.num_dst, relu)
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
    by_dst, _, by_cell = unpack(rows)
    if gpu.serves(x, weight):
        from fovigraph.ops.gpu import reduce

        return reduce.gather_channels(x, weight, by_dst, bias, relu)
    if weight.shape[2] < MANY:
        return finish(_channel_sums(x, weight, by_dst), bias, relu)
    parts = [
        gather_gemm(x[:, :, c, None], weight[:, c, None], by_dst, by_cell)
        for c in range(x.shape[2])
    ]
    return finish(torch.cat(parts, dim=2), bias, relu)


def _backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    rows: Sequence[Tensor],
    share: Tensor | None,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor]:
    by_dst, by_src, by_cell = unpack(rows)
    grad_x, grad_weight = x.new_empty(0), weight.new_empty(0)
    if gpu.serves(grad, x, weight):
        from fovigraph.ops.gpu import reduce

        if needs[0]:
            grad_x = reduce.gather_channels(grad, weight, by_src.reversed(), back=True)
        if needs[1]:
            grad_weight = reduce.gather_product(x, grad, by_cell)
        return grad_x, grad_weight
    if needs[0]:
        grad_x = _input_gradient(grad, weight, by_src.reversed(), by_cell.reversed())
    if needs[1]:
        grad_weight = _weight_gradient(x, grad, by_dst, by_cell)
    return grad_x, grad_weight


def _plain(
    x: Tensor, weight: Tensor, rows: Sequence[Tensor], share: Tensor | None, num_dst: int
) -> Tensor:
    return plain.depthwise(x, weight, unpack(rows)[0], num_dst)


_knn_depthwise_conv = register_conv(
    "knn_depthwise_conv", _forward, _backward, _plain, depthwise=True
)


def _channel_sums(x: Tensor, weight: Tensor, by_row: Triples) -> Tensor:
    """Sum ``x[src, c] · weight[cell, c, m]`` into every row, ``[B, rows, C · M]``."""
    batch, nodes, channels = x.shape
    multiplier, edges, rows = weight.shape[2], len(by_row.src), len(by_row.ptr) - 1
    table = x.permute(2, 1, 0).reshape(channels * nodes, batch).to(sum_dtype(x))
    factors = weight.flatten(1).t().to(table.dtype)
    out = table.new_zeros(len(factors), rows, batch)
    outputs = torch.arange(len(factors) if edges and batch else 0, device=x.device)
    for some in outputs.split(max(1, CHUNK // (4 * max(1, edges)))):
        index = some[:, None] // multiplier * nodes + by_row.src
        begin = torch.arange(len(some), device=x.device)[:, None] * edges + by_row.ptr[:-1]
        out[some] = embedding_bag(
            index.flatten(),
            table,
            begin.flatten(),
            mode="sum",
            per_sample_weights=factors[some].index_select(1, by_row.cell).flatten(),
        ).view(len(some), rows, batch)
    return out.permute(2, 1, 0).contiguous().to(x.dtype)


def _input_gradient(grad: Tensor, weight: Tensor, by_src: Triples, by_cell: Triples) -> Tensor:
    channels, multiplier = weight.shape[1:]
    if multiplier < MANY:
        every = _channel_sums(grad, weight.reshape(len(weight), -1, 1), by_src)
        return every.unflatten(2, (channels, multiplier)).sum(3)
    parts = [
        gather_gemm(part, weight[:, c, :, None], by_src, by_cell)
        for c, part in enumerate(grad.split(multiplier, dim=2))
    ]
    return torch.cat(parts, dim=2)


def _weight_gradient(x: Tensor, grad: Tensor, by_dst: Triples, by_cell: Triples) -> Tensor:
    batch, channels = len(x), x.shape[2]
    multiplier, num_cells = grad.shape[2] // channels, len(by_cell.ptr) - 1
    if multiplier >= MANY:
        parts = [
            gather_outer(x[:, :, c, None], part, by_dst, by_cell)
            for c, part in enumerate(grad.split(multiplier, dim=2))
        ]
        return torch.cat(parts, dim=1)
    rows, grad_rows = node_rows(x), node_rows(grad)
    out = x.new_zeros(num_cells, channels, multiplier, dtype=sum_dtype(x))
    for cell, part in chunks(by_cell.ptr, batch * channels * (1 + multiplier)):
        gathered = rows.index_select(0, by_cell.src[part]).view(-1, channels, 1)
        gathered_grad = grad_rows.index_select(0, by_cell.dst[part]).view(-1, channels, multiplier)
        out[cell] += (gathered * gathered_grad).sum(0)
    return out.to(x.dtype)
