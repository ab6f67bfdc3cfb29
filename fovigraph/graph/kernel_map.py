"""The kernel map: the list of triples that a kNN convolution is."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fovigraph._checks import positive_int


class Triples(NamedTuple):
    """Triples (dst, src, cell), each ``[E]``, sorted by one of the three into rows.

    Row *r* is ``ptr[r]:ptr[r + 1]``.
    """

    dst: Int64[Tensor, " E"]
    src: Int64[Tensor, " E"]
    cell: Int64[Tensor, " E"]
    ptr: Int64[Tensor, " rows+1"]

    def reversed(self) -> Triples:
        """The same triples with every edge turned round."""
        return Triples(self.src, self.dst, self.cell, self.ptr)


class KernelMap:
    """Triples (dst, src, cell) of a convolution, ``Y[dst] += X[src] @ W[cell]``, by destination.

    The three passes of the convolution are the same sum over these triples, taken row by row:
    forward by ``dst``, input gradient by ``src``, weight gradient by ``cell``. So the list is kept
    sorted in these three ways, each made when first asked for.

    Args:
        dst, src, cell: Each ``[E]``, int64; ``dst`` ascending.
        num_dst, num_src, num_cells: How many destinations, sources and kernel cells there are.
    """

    def __init__(
        self,
        dst: Int64[Tensor, " E"],
        src: Int64[Tensor, " E"],
        cell: Int64[Tensor, " E"],
        *,
        num_dst: int,
        num_src: int,
        num_cells: int,
    ):
        self.dst, self.src, self.cell = dst, src, cell
        self.num_dst, self.num_src, self.num_cells = num_dst, num_src, num_cells

    @classmethod
    def from_edges(
        cls,
        edge_index: Int64[Tensor, "2 E"],
        cell: Int64[Tensor, " E"],
        *,
        num_dst: int,
        num_src: int,
        num_cells: int,
    ) -> KernelMap:
        """Sort edges in any order (PyG's ``edge_index``, ``[2, E]``) into a kernel map."""
        order = edge_index[1].argsort(stable=True)
        src, dst = edge_index[:, order]
        return cls(dst, src, cell[order], num_dst=num_dst, num_src=num_src, num_cells=num_cells)

    @cached_property
    def by_dst(self) -> Triples:
        """Rows of the forward pass."""
        return Triples(self.dst, self.src, self.cell, row_ptr(self.dst, self.num_dst))

    @cached_property
    def by_src(self) -> Triples:
        """Rows of the input gradient."""
        return self._sorted_by(self.src, self.num_src)

    @cached_property
    def by_cell(self) -> Triples:
        """Rows of the weight gradient."""
        return self._sorted_by(self.cell, self.num_cells)

    def _sorted_by(self, key: Tensor, rows: int) -> Triples:
        order = key.argsort(stable=True)
        return Triples(self.dst[order], self.src[order], self.cell[order], row_ptr(key, rows))

    def __len__(self) -> int:
        return len(self.dst)

    def __repr__(self) -> str:
        return (
            f"KernelMap({self.num_src} → {self.num_dst} nodes, {self.num_cells} cells, "
            f"{len(self)} triples)"
        )


def nearest_cell(offset: Float[Tensor, "*E 2"], kernel_size: int) -> Int64[Tensor, "*E"]:
    """Return the cell of the reference kernel that each offset is nearest to.

    The cells are the grid ``linspace(-1, 1, kernel_size)²``; a tie goes to the lower index.

    Args:
        offset: Position in the kernel, ``[..., 2]``, each coordinate in [-1, 1].
        kernel_size: Side of the reference kernel.

    Returns:
        ``index_u * kernel_size + index_v``, ``[...]``, int64.
    """
    kernel_size = positive_int("kernel_size", kernel_size)
    # The margin keeps a tie a tie through single precision.
    grid = torch.ceil((offset.double() + 1) / 2 * (kernel_size - 1) - 0.5 - 1e-5)
    u, v = grid.clamp_(0, kernel_size - 1).long().unbind(-1)
    return u * kernel_size + v


def row_ptr(key: Int64[Tensor, " E"], rows: int) -> Int64[Tensor, " {rows}+1"]:
    """Where each of ``rows`` rows begins in a list sorted by ``key``, ``[rows + 1]``."""
    counts = torch.bincount(key, minlength=rows)
    return torch.cat((counts.new_zeros(1), counts.cumsum(0)))
