"""The operators on a CPU, compiled: ``kernels.cpp``, without anything stored between its steps.

Torch's own operations, which define what they compute, serve wherever these cannot.
"""

from __future__ import annotations

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
    name, rows = "gather_by_cell", (by_cell.ptr, by_cell.dst, by_cell.src)
    if SHARED * batch + batch * channels >= SHARED // 2 * channels:
        name, rows = "gather_by_node", (by_dst.ptr, by_dst.src, by_dst.cell)
    sizes = batch, num_src, num_dst, num_cells, channels, columns
    operands = (x.contiguous(), weight, *weight.stride(), *rows, bias, out, *sizes, int(relu))
    _call(name, x.dtype, *operands)
    return out


def gather_outer(x: Tensor, grad: Tensor, by_dst: Triples, by_cell: Triples) -> Tensor:
    """Do what :func:`fovigraph.ops.knn_conv.gather_outer` does."""
    batch, num_src, channels = x.shape
    num_dst, columns = grad.shape[1:]
    num_cells = len(by_cell.ptr) - 1
    out = x.new_empty(num_cells, channels, columns)
    if out.numel() == 0 or batch == 0:
        return out.zero_()
    name, rows = "outer_by_cell", (by_cell.ptr, by_cell.dst, by_cell.src)
    if channels <= FEW <= batch:
        name, rows = "outer_by_node", (by_dst.ptr, by_dst.src, by_dst.cell)
    sizes = batch, num_src, num_dst, num_cells, channels, columns
    _call(name, x.dtype, x.contiguous(), grad.contiguous(), *rows, out, *sizes)
    return out


def _call(name: str, dtype: torch.dtype, *arguments: Tensor | int | None) -> None:
    """Call a kernel, which takes tensors as addresses, with as many threads as torch uses."""
    plain = [value.data_ptr() if isinstance(value, Tensor) else value for value in arguments]
    kernel = getattr(library(), f"{name}_{NAMES[dtype]}")
    if kernel(*plain, torch.get_num_threads()):
        raise MemoryError(f"not enough memory to copy the weights or features of {name}")
