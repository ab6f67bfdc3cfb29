"""kNN convolution over a kernel map: one gather–GEMM, used three ways.

A kernel map is a list of triples (dst, src, cell). With X ``[B, src, C]`` and W ``[cells, C, O]``,

    forward          Y[dst]  = Σ X[src] @ W[cell]       rows of dst
    input gradient   dX[src] = Σ dY[dst] @ W[cell]ᵀ     rows of src: the same, edges turned round
    weight gradient  dW[cell] = Σ X[src]ᵀ @ dY[dst]     rows of cell

and nothing else happens here. Each sum can be taken along two kinds of row, and which moves fewer
bytes depends on the shape alone:

- *by cell*: gather the features of a cell's edges, one GEMM with the cell's weights, scatter.
  Moves features, in and out: good where weights are large (many channels).
- *by node*: gather the weights of a node's edges, multiply them with its neighbourhood, nothing to
  scatter; nodes with equally many edges share a batched GEMM. Moves weights: good where they are
  small (the first layer, with three channels).

On a GPU, kernels in :mod:`fovigraph.ops.gpu` do the same; ``docs/kernels.md`` explains both.

The operator is registered with ``torch.library``, so ``torch.compile`` and ``torch.export`` see it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fovigraph.graph import KernelMap
from fovigraph.graph.kernel_map import Triples
from fovigraph.ops import cpu, gpu, plain
from fovigraph.ops.gemm import gemm
from fovigraph.ops.operands import operands
from fovigraph.ops.registration import register_conv
from fovigraph.ops.rows import (
    chunks,
    equal_rows,
    from_node_rows,
    node_columns,
    node_rows,
    sum_dtype,
)
from fovigraph.ops.transforms import transformed

BATCHED = 0.05
"""What a multiply–add costs more in a batched GEMM than in a single one, in numbers moved."""

CALL = 300_000
"""What starting the work on one cell costs, in numbers moved: some 40 µs of copying."""


def knn_conv(
    x: Float[Tensor, "*batch N C"],
    weight: Float[Tensor, "cells C D"],
    kernel_map: KernelMap,
    bias: Float[Tensor, " D"] | None = None,
    relu: bool = False,
) -> Float[Tensor, "*batch M D"]:
    """Convolve node features over a kernel map.

    Args:
        x: Features of the sources, ``[*, num_src, C]``.
        weight: One matrix per kernel cell, ``[num_cells, C, O]``.
        kernel_map: The triples (dst, src, cell).
        bias: Added to every output, ``[O]``.
        relu: Whether what is then negative becomes zero.

    Returns:
        Features of the destinations, ``[*, num_dst, O]``.

    Raises:
        ValueError, TypeError: If the arguments differ in device or dtype, or do not fit in
            size, or are not what they should be.
    """
    x, weight, bias = operands(x, weight, bias, kernel_map, relu)
    if transformed():
        return plain.conv(x, weight, kernel_map.by_cell, kernel_map.num_dst, bias, relu)
    flat = x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])
    out = _knn_conv(flat, weight, three_ways(kernel_map), None, bias, kernel_map.num_dst, relu)
    return out.view(*x.shape[:-2], *out.shape[-2:])


def three_ways(kernel_map: KernelMap) -> list[Tensor]:
    """Return the triples by destination, by source and by cell, as an operator takes them."""
    return [*kernel_map.by_dst, *kernel_map.by_src, *kernel_map.by_cell]


def unpack(rows: Sequence[Tensor]) -> tuple[Triples, Triples, Triples]:
    """Return the triples by destination, by source and by cell, of :func:`three_ways`."""
    return Triples(*rows[:5]), Triples(*rows[5:10]), Triples(*rows[10:])


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
    return gather_gemm(x, weight, by_dst, by_cell, bias, relu)


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
    if needs[0]:
        turned = by_src.reversed(), by_cell.reversed()
        grad_x = gather_gemm(grad, weight.transpose(1, 2), *turned)
    if needs[1]:
        grad_weight = gather_outer(x, grad, by_dst, by_cell)
    return grad_x, grad_weight


def _plain(
    x: Tensor, weight: Tensor, rows: Sequence[Tensor], share: Tensor | None, num_dst: int
) -> Tensor:
    return plain.conv(x, weight, unpack(rows)[2], num_dst)


_knn_conv = register_conv("knn_conv", _forward, _backward, _plain)


def gather_gemm(
    x: Float[Tensor, "B N C"],
    weight: Float[Tensor, "cells C D"],
    by_dst: Triples,
    by_cell: Triples,
    bias: Float[Tensor, " D"] | None = None,
    relu: bool = False,
) -> Float[Tensor, "B M D"]:
    """Sum ``x[src] @ weight[cell]`` into every destination.

    Args:
        x: ``[B, num_src, C]``.
        weight: ``[num_cells, C, O]``.
        by_dst, by_cell: The triples, sorted both ways.
        bias: ``[O]``.
        relu: Whether what is then negative becomes zero.

    Returns:
        ``[B, num_dst, O]``.
    """
    if gpu.serves(x, weight):
        from fovigraph.ops.gpu import conv

        return conv.gather_gemm(x, weight, by_dst, bias, relu)
    if cpu.serves(x, weight):
        return cpu.gather_gemm(x, weight, by_dst, by_cell, bias, relu)
    batch, edges = len(x), len(by_dst.dst)
    channels, out_channels = weight.shape[1:]
    moved_by_cell = edges * batch * (channels + 3 * out_channels) + len(weight) * CALL
    moved_by_node = edges * channels * (batch + 2 * out_channels)
    moved_by_node += int(BATCHED * edges * batch * channels * out_channels)
    if moved_by_cell <= moved_by_node:
        return _gather_gemm_by_cell(x, weight, by_cell, len(by_dst.ptr) - 1, bias, relu)
    return _gather_gemm_by_node(x, weight, by_dst, bias, relu)


def _gather_gemm_by_cell(
    x: Tensor,
    weight: Tensor,
    by_cell: Triples,
    num_dst: int,
    bias: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    batch, (channels, out_channels) = len(x), weight.shape[1:]
    rows = node_rows(x)
    out = _start(bias, num_dst, batch, out_channels, sum_dtype(x), x.device)
    for cell, part in chunks(by_cell.ptr, batch * (channels + out_channels)):
        gathered = rows.index_select(0, by_cell.src[part]).view(-1, channels)
        product = gemm(gathered, weight[cell]).view(part.stop - part.start, batch * out_channels)
        out.index_add_(0, by_cell.dst[part], product.to(out.dtype))
    return from_node_rows(out, batch, out_channels, relu).to(x.dtype)


def _gather_gemm_by_node(
    x: Tensor, weight: Tensor, by_dst: Triples, bias: Tensor | None = None, relu: bool = False
) -> Tensor:
    batch, (num_cells, channels, out_channels) = len(x), weight.shape
    columns = node_columns(x)
    weight_rows = weight.reshape(num_cells, channels * out_channels)
    out = _start(bias, len(by_dst.ptr) - 1, batch, out_channels, x.dtype, x.device)
    for nodes, edges in equal_rows(by_dst.ptr, channels * (batch + out_channels)):
        shape = len(nodes), edges.shape[1] * channels
        neighbourhoods = columns.index_select(0, by_dst.src[edges.flatten()]).view(*shape, batch)
        weights = weight_rows.index_select(0, by_dst.cell[edges.flatten()])
        product = torch.bmm(neighbourhoods.mT, weights.view(*shape, out_channels))
        out.index_add_(0, nodes, product.view(len(nodes), -1))
    return from_node_rows(out, batch, out_channels, relu)


def _start(
    bias: Tensor | None,
    nodes: int,
    batch: int,
    channels: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """Return what sums begin with, the bias or zero, ``[nodes, batch · channels]``."""
    if bias is None:
        return torch.zeros(nodes, batch * channels, dtype=dtype, device=device)
    return bias.to(dtype).repeat(nodes, batch)


def gather_outer(
    x: Float[Tensor, "B N C"], grad: Float[Tensor, "B M D"], by_dst: Triples, by_cell: Triples
) -> Float[Tensor, "cells C D"]:
    """Sum ``x[src]ᵀ @ grad[dst]`` into every kernel cell.

    Args:
        x: ``[B, num_src, C]``.
        grad: ``[B, num_dst, O]``.
        by_dst, by_cell: The triples, sorted both ways.

    Returns:
        ``[num_cells, C, O]``.
    """
    if gpu.serves(x, grad):
        from fovigraph.ops.gpu import outer

        return outer.gather_outer(x, grad, by_dst, by_cell)
    if cpu.serves(x, grad):
        return cpu.gather_outer(x, grad, by_dst, by_cell)
    batch, edges, num_cells = len(x), len(by_dst.dst), len(by_cell.ptr) - 1
    channels, out_channels = x.shape[2], grad.shape[2]
    moved_by_cell = edges * batch * (channels + out_channels) + num_cells * CALL
    moved_by_node = edges * channels * (batch + 3 * out_channels)
    moved_by_node += int(BATCHED * edges * batch * channels * out_channels)
    if moved_by_cell <= moved_by_node:
        return _gather_outer_by_cell(x, grad, by_cell)
    return _gather_outer_by_node(x, grad, by_dst, num_cells)


def _gather_outer_by_cell(x: Tensor, grad: Tensor, by_cell: Triples) -> Tensor:
    batch, channels, out_channels = len(x), x.shape[2], grad.shape[2]
    rows, grad_rows = node_rows(x), node_rows(grad)
    out = x.new_zeros(len(by_cell.ptr) - 1, channels, out_channels, dtype=sum_dtype(x))
    for cell, part in chunks(by_cell.ptr, batch * (channels + out_channels)):
        gathered = rows.index_select(0, by_cell.src[part]).view(-1, channels)
        gathered_grad = grad_rows.index_select(0, by_cell.dst[part]).view(-1, out_channels)
        out[cell] += gemm(gathered.t(), gathered_grad)
    return out.to(x.dtype)


def _gather_outer_by_node(x: Tensor, grad: Tensor, by_dst: Triples, num_cells: int) -> Tensor:
    batch, channels, out_channels = len(x), x.shape[2], grad.shape[2]
    columns, grad_nodes = node_columns(x), grad.transpose(0, 1)
    out = x.new_zeros(num_cells, channels * out_channels, dtype=sum_dtype(x))
    for nodes, edges in equal_rows(by_dst.ptr, channels * (batch + out_channels)):
        shape = len(nodes), edges.shape[1] * channels
        neighbourhoods = columns.index_select(0, by_dst.src[edges.flatten()]).view(*shape, batch)
        product = torch.bmm(neighbourhoods, grad_nodes[nodes]).view(edges.numel(), out.shape[1])
        out.index_add_(0, by_dst.cell[edges.flatten()], product.to(out.dtype))
    return out.view(num_cells, channels, out_channels).to(x.dtype)
