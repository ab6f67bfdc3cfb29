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
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from fovigraph.graph import KernelMap
from fovigraph.graph.kernel_map import Triples
from fovigraph.ops import gpu, plain
from fovigraph.ops.knn_conv import gather_gemm, gather_outer
from fovigraph.ops.operands import operands
from fovigraph.ops.rows import CHUNK, chunks, finish, node_rows, sum_dtype
from fovigraph.ops.transforms import differentiable, gradients, transformed

MANY = 8
"""Outputs a channel from which on a full convolution of each channel is faster."""


def knn_depthwise_conv(
    x: Tensor,
    weight: Tensor,
    kernel_map: KernelMap,
    bias: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
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
    ways = [*kernel_map.by_cell, *kernel_map.by_dst, *kernel_map.by_src]
    out = _knn_depthwise_conv(flat, weight, ways, kernel_map.num_dst, bias, relu)
    return out.view(*x.shape[:-2], *out.shape[-2:])


@torch.library.custom_op("fovigraph::knn_depthwise_conv", mutates_args=())
def _knn_depthwise_conv(
    x: Tensor,
    weight: Tensor,
    ways: Sequence[Tensor],
    num_dst: int,
    bias: Tensor | None,
    relu: bool,
) -> Tensor:
    """Convolve, given the triples by cell, by destination and by source."""
    by_cell, by_dst, _ = _unpack(ways)
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


@_knn_depthwise_conv.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    ways: Sequence[Tensor],
    num_dst: int,
    bias: Tensor | None,
    relu: bool,
) -> Tensor:
    return x.new_empty(x.shape[0], num_dst, weight.shape[1] * weight.shape[2])


@torch.library.custom_op("fovigraph::knn_depthwise_conv_backward", mutates_args=())
def _knn_depthwise_conv_backward(
    grad: Tensor, x: Tensor, weight: Tensor, ways: Sequence[Tensor], needs: Sequence[bool]
) -> tuple[Tensor, Tensor]:
    by_cell, by_dst, by_src = _unpack(ways)
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


@_knn_depthwise_conv_backward.register_fake
def _(
    grad: Tensor, x: Tensor, weight: Tensor, ways: Sequence[Tensor], needs: Sequence[bool]
) -> tuple[Tensor, Tensor]:
    return (
        x.new_empty(x.shape) if needs[0] else x.new_empty(0),
        weight.new_empty(weight.shape) if needs[1] else weight.new_empty(0),
    )


def _unpack(ways: Sequence[Tensor]) -> tuple[Triples, Triples, Triples]:
    return Triples(*ways[:5]), Triples(*ways[5:10]), Triples(*ways[10:])


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


def _plain_backward(
    grad: Tensor, x: Tensor, weight: Tensor, ways: Sequence[Tensor], needs: Sequence[bool]
) -> tuple[Tensor, ...]:
    _, by_dst, _ = _unpack(ways)
    num_dst = len(by_dst.ptr) - 1
    return gradients(lambda x, w: plain.depthwise(x, w, by_dst, num_dst), (x, weight), grad)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, ways, *_, relu = inputs
    ctx.save_for_backward(x, weight, output if relu else None, *ways)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, weight, positive, *ways = ctx.saved_tensors
    if positive is not None:
        grad = grad * ~(positive <= 0)  # NaN passes, as it does through torch.relu
    needs = list(ctx.needs_input_grad[:2])
    backward = _plain_backward if transformed(grad) else _knn_depthwise_conv_backward
    grad_x, grad_weight = backward(grad.contiguous(), x, weight, ways, needs)
    return (
        grad_x if needs[0] else None,
        grad_weight if needs[1] else None,
        [None] * len(ways),
        None,
        grad.sum((0, 1)) if ctx.needs_input_grad[4] else None,
        None,
    )


_knn_depthwise_conv.register_autograd(_backward, setup_context=_setup_context)
differentiable(_knn_depthwise_conv_backward, _plain_backward, operands=3)
