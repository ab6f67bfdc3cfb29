"""The operators on a CPU, compiled from ``kernels``, without anything stored between its steps.

Torch's own operations, which define what they compute, serve wherever these cannot.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fovigraph.graph.kernel_map import Triples
from fovigraph.ops.cpu.build import library

NAMES = {torch.float32: "float", torch.float64: "double"}

FEW = 8
"""Channels up to which a weight gradient goes destination by destination."""

SHARED = 32
"""Numbers moved, in and out, for every row of a tile that is summed in memory."""


def serves(*tensors: Tensor) -> bool:
    """Whether the kernels serve these tensors: of one dtype that they know, on a CPU."""
    first = tensors[0]
    return (
        first.device.type == "cpu"
        and first.dtype in NAMES
        and all(tensor.device == first.device for tensor in tensors)
        and all(tensor.dtype == first.dtype for tensor in tensors)
        and library() is not None
    )


def gather_gemm(
    x: Tensor,
    weight: Tensor,
    by_dst: Triples,
    by_cell: Triples,
    bias: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """Do what :func:`fovigraph.ops.knn_conv.gather_gemm` does."""
    batch, num_src, channels = x.shape
    num_cells, _, columns = weight.shape
    num_dst = len(by_dst.ptr) - 1
    out = x.new_empty(batch, num_dst, columns)
    if out.numel() == 0 or channels == 0:
        return out.zero_() if bias is None else out.copy_(bias.relu() if relu else bias)
    name, rows = "gather_by_cell", [by_cell.ptr, by_cell.dst, by_cell.src]
    if SHARED * batch + batch * channels >= SHARED // 2 * channels:
        name, rows = "gather_by_node", [by_dst.ptr, by_dst.src, by_dst.cell]
    x, bias, *rows = _contiguous(x, bias, *rows)
    sizes = batch, num_src, num_dst, num_cells, channels, columns
    _call(name, x.dtype, x, weight, *weight.stride(), *rows, bias, out, *sizes, int(relu))
    return out


def gather_outer(x: Tensor, grad: Tensor, by_dst: Triples, by_cell: Triples) -> Tensor:
    """Do what :func:`fovigraph.ops.knn_conv.gather_outer` does."""
    batch, num_src, channels = x.shape
    num_dst, columns = grad.shape[1:]
    num_cells = len(by_cell.ptr) - 1
    out = x.new_empty(num_cells, channels, columns)
    if out.numel() == 0 or batch == 0:
        return out.zero_()
    name, rows = "outer_by_cell", [by_cell.ptr, by_cell.dst, by_cell.src]
    if channels <= FEW <= batch:
        name, rows = "outer_by_node", [by_dst.ptr, by_dst.src, by_dst.cell]
    x, grad, *rows = _contiguous(x, grad, *rows)
    _call(name, x.dtype, x, grad, *rows, out, batch, num_src, num_dst, num_cells, channels, columns)
    return out


def pool(
    x: Tensor, src: Tensor, ptr: Tensor, reduce: str, edge_weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Reduce the features of every destination's neighbours.

    Args:
        x: ``[B, num_src, C]``.
        src: Sources of the edges by destination, ``[E]``.
        ptr: Where each destination's edges begin, ``[num_dst + 1]``.
        reduce: ``"max"``, ``"mean"`` or ``"sum"``.
        edge_weight: Factors in a sum, ``[E]``.

    Returns:
        ``[B, num_dst, C]``, and for a maximum, of the same shape, int32, which neighbour won: its
        place among the destination's edges.
    """
    batch, num_src, channels = x.shape
    out = x.new_empty(batch, len(ptr) - 1, channels)
    winner = torch.empty(out.shape if reduce == "max" else 0, dtype=torch.int32)
    _reduce("", x, src, ptr, out, reduce, winner, edge_weight, (batch, num_src, out.shape[1]))
    return out, winner


def pool_backward(
    grad: Tensor,
    winner: Tensor,
    src: Tensor,
    ptr: Tensor,
    reduce: str,
    edge_weight: Tensor | None,
    num_src: int,
) -> Tensor:
    """Return the gradient ``[B, num_src, C]`` of what :func:`pool` was given."""
    batch, num_dst, channels = grad.shape
    out = grad.new_empty(batch, num_src, channels)
    sizes = batch, num_src, num_dst
    _reduce("_gradient", grad, src, ptr, out, reduce, winner, edge_weight, sizes)
    return out


def _reduce(
    which: str,
    x: Tensor,
    src: Tensor,
    ptr: Tensor,
    out: Tensor,
    reduce: str,
    winner: Tensor,
    edge_weight: Tensor | None,
    sizes: tuple[int, ...],
) -> None:
    factor = None if edge_weight is None else edge_weight.to(x.dtype)
    x, src, ptr, winner, factor = _contiguous(x, src, ptr, winner, factor)
    sizes = *sizes, x.shape[2]
    if reduce == "max":
        _call(f"pool_max{which}", x.dtype, x, ptr, src, out, winner, *sizes)
    else:
        mean = int(reduce == "mean")
        _call(f"pool_sum{which}", x.dtype, x, ptr, src, out, factor, *sizes, mean)


def normalise(
    rows: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Do what :func:`fovigraph.ops.batch_norm.batch_norm` does."""
    out = torch.empty_like(rows, memory_format=torch.contiguous_format)
    mean, variance = (rows.new_empty(rows.shape[1], dtype=torch.float64) for _ in range(2))
    given = _contiguous(rows, weight, bias)
    _call("normalise", rows.dtype, *given, out, mean, variance, *rows.shape, eps)
    return out, mean, variance


def normalise_backward(
    grad: Tensor,
    rows: Tensor,
    weight: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of what :func:`normalise` was given: rows, weight and bias."""
    grad_rows = torch.empty_like(rows, memory_format=torch.contiguous_format)
    grad_weight, grad_bias = (rows.new_empty(rows.shape[1]) for _ in range(2))
    given = _contiguous(grad, rows, weight, mean, variance)
    made = grad_rows, grad_weight, grad_bias
    _call("normalise_gradient", rows.dtype, *given, *made, *rows.shape, eps)
    return made


def _contiguous(*tensors: Any) -> list[Any]:
    return [None if tensor is None else tensor.contiguous() for tensor in tensors]


def _call(name: str, dtype: torch.dtype, *arguments: Tensor | float | None) -> None:
    """Call a kernel, which takes tensors as addresses, with as many threads as torch uses.

    All tensors must be contiguous, but a weight, whose strides are among the arguments.
    """
    kernel = getattr(library(), f"{name}_{NAMES[dtype]}")
    plain = (value.data_ptr() if isinstance(value, Tensor) else value for value in arguments)
    if kernel(*plain, torch.get_num_threads()):
        raise MemoryError(f"not enough memory to copy the weights or features of {name}")
