"""The kernel map: the list of triples that a kNN convolution is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fovigraph._checks import positive_int, whole_number
from fovigraph._tensors import (
    check_below,
    finite,
    float_tensor,
    index_tensor,
    may_inspect,
    real_tensor,
    same_device,
)
from fovigraph.geometry.fixed import isolated, ordinary

T = TypeVar("T")

MAX_KERNEL_SIZE = 1024
"""The largest side of a reference kernel: a million matrices of weights."""


def _once(make: Callable[[KernelMap], T]) -> property:
    """A property that is made when first asked for: torch.compile follows it, unlike functools'."""
    make_apart = isolated(make)

    def get(self: KernelMap) -> T:
        if make.__name__ not in self._made:
            self._made[make.__name__] = make_apart(self)
        return self._made[make.__name__]

    return property(get, doc=make.__doc__)


class Triples(NamedTuple):
    """Triples (dst, src, cell), each ``[E]``, sorted by one of the three into rows.

    Row *r* is ``ptr[r]:ptr[r + 1]``; ``edge`` is every triple's place in the order by ``dst``.
    """

    dst: Int64[Tensor, " E"]
    src: Int64[Tensor, " E"]
    cell: Int64[Tensor, " E"]
    ptr: Int64[Tensor, " rows+1"]
    edge: Int64[Tensor, " E"]

    def reversed(self) -> Triples:
        """The same triples with every edge turned round."""
        return Triples(self.src, self.dst, self.cell, self.ptr, self.edge)


class KernelMap:
    """Triples (dst, src, cell) of a convolution, ``Y[dst] += X[src] @ W[cell]``, by destination.

    The three passes of the convolution are the same sum over these triples, taken row by row:
    forward by ``dst``, input gradient by ``src``, weight gradient by ``cell``. So the list is kept
    sorted in these three ways, each made when first asked for.

    A bilinear map (:meth:`bilinear`) has up to four triples an edge, each with a ``share`` of it:
    ``Y[dst] += share · X[src] @ W[cell]``.

    Args:
        dst, src, cell: Each ``[E]``, int64; ``dst`` ascending.
        num_dst, num_src, num_cells: How many destinations, sources and kernel cells there are.
        share: Of every triple, ``[E]``; ``None``: all count whole.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above, or names a node or a
            cell that there is not. (Values on an accelerator are not looked at, which would wait
            for it.)
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
        share: Float[Tensor, " E"] | None = None,
    ):
        if not torch.compiler.is_compiling():
            _check_triples(dst, src, cell, share, num_dst, num_src, num_cells)
        self._set(dst, src, cell, num_dst, num_src, num_cells, share)

    def _set(
        self,
        dst: Tensor,
        src: Tensor,
        cell: Tensor,
        num_dst: int,
        num_src: int,
        num_cells: int,
        share: Tensor | None,
    ) -> None:
        self.dst, self.src, self.cell = ordinary(dst), ordinary(src), ordinary(cell)
        self.share = None if share is None else ordinary(share)
        self.num_dst, self.num_src, self.num_cells = num_dst, num_src, num_cells
        self._made: dict[str, Any] = {}

    @classmethod
    def of_fitting(
        cls,
        dst: Int64[Tensor, " E"],
        src: Int64[Tensor, " E"],
        cell: Int64[Tensor, " E"],
        *,
        num_dst: int,
        num_src: int,
        num_cells: int,
        share: Float[Tensor, " E"] | None = None,
    ) -> KernelMap:
        """Make a kernel map of what is known to fit, and so is not checked."""
        kernel_map = cls.__new__(cls)
        kernel_map._set(dst, src, cell, num_dst, num_src, num_cells, share)
        return kernel_map

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
        """Sort edges in any order (PyG's ``edge_index``, ``[2, E]``) into a kernel map.

        Args:
            edge_index: PyG's, ``[2, E]``, in any order.
            cell: The kernel cell of every edge, ``[E]``.
            num_dst, num_src, num_cells: As for the class.

        Raises:
            ValueError, TypeError: As for the class.
        """
        if not torch.compiler.is_compiling():
            _check_edges(edge_index, num_dst, num_src)
            _check_cells(index_tensor("cell", cell, tuple(edge_index.shape[1:])), num_cells)
            same_device(edge_index=edge_index, cell=cell)
        order = edge_index[1].argsort(stable=True)
        src, dst = edge_index[:, order]
        return cls.of_fitting(
            dst, src, cell[order], num_dst=num_dst, num_src=num_src, num_cells=num_cells
        )

    @classmethod
    def bilinear(
        cls,
        edge_index: Int64[Tensor, "2 E"],
        offset: Float[Tensor, "E 2"],
        kernel_size: int,
        *,
        num_dst: int,
        num_src: int,
    ) -> KernelMap:
        """Share every edge among the four cells of the kernel that its offset lies between.

        Args:
            edge_index: PyG's, ``[2, E]``, in any order.
            offset: Position in the kernel, ``[E, 2]``.
            kernel_size: Side of the reference kernel.
            num_dst, num_src: How many nodes there are.

        Raises:
            ValueError, TypeError: As for the class; if an offset is not a number (NaN).
        """
        if not torch.compiler.is_compiling():
            _check_edges(edge_index, num_dst, num_src)
            float_tensor("offset", offset, (edge_index.shape[1], 2))
            same_device(edge_index=edge_index, offset=offset)
        order = edge_index[1].argsort(stable=True)
        cell, share = bilinear_cells(offset[order], kernel_size)
        src, dst = edge_index[:, order, None].expand(-1, -1, 4)
        reached = share != 0  # NaN, too, reaches: nothing is dropped unseen
        return cls.of_fitting(
            dst[reached],
            src[reached],
            cell[reached],
            num_dst=num_dst,
            num_src=num_src,
            num_cells=kernel_size**2,
            share=share[reached],
        )

    @_once
    def transposed(self) -> KernelMap:
        """The same triples with every edge turned round, sorted by what is the destination now."""
        dst, src, cell, _, edge = self.by_src.reversed()
        return KernelMap.of_fitting(
            dst,
            src,
            cell,
            num_dst=self.num_src,
            num_src=self.num_dst,
            num_cells=self.num_cells,
            share=None if self.share is None else self.share[edge],
        )

    @_once
    def share_by_cell(self) -> Float[Tensor, " E"] | None:
        """``share`` in the order of :attr:`by_cell`."""
        return None if self.share is None else self.share[self.by_cell.edge]

    @_once
    def by_dst(self) -> Triples:
        """Rows of the forward pass."""
        edge = torch.arange(len(self), device=self.dst.device)
        return Triples(self.dst, self.src, self.cell, row_ptr(self.dst, self.num_dst), edge)

    @_once
    def by_src(self) -> Triples:
        """Rows of the input gradient."""
        return self._sorted_by(self.src, self.num_src)

    @_once
    def by_cell(self) -> Triples:
        """Rows of the weight gradient."""
        return self._sorted_by(self.cell, self.num_cells)

    def _sorted_by(self, key: Tensor, rows: int) -> Triples:
        edge = key.argsort(stable=True)
        ptr = row_ptr(key[edge], rows)
        return Triples(self.dst[edge], self.src[edge], self.cell[edge], ptr, edge)

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
        offset: Position in the kernel, ``[..., 2]``; beyond [-1, 1], infinite ones included, the
            nearest edge.
        kernel_size: Side of the reference kernel.

    Returns:
        ``index_u * kernel_size + index_v``, ``[...]``, int64.

    Raises:
        ValueError, TypeError: If the offset is not such a tensor or NaN, or ``kernel_size`` is not
            from 1 to 1024.
    """
    kernel_size = check_kernel_size(kernel_size)
    _not_nan("offset", real_tensor("offset", offset, ("...", 2)))
    return cell_of(offset, kernel_size)


def cell_of(offset: Float[Tensor, "*E 2"], kernel_size: int) -> Int64[Tensor, "*E"]:
    """As :func:`nearest_cell`, of arguments that are known to be right."""
    # The margin keeps a tie a tie through single precision.
    grid = torch.ceil((offset.double().clamp(-1, 1) + 1) / 2 * (kernel_size - 1) - 0.5 - 1e-5)
    u, v = grid.clamp_(0, kernel_size - 1).long().unbind(-1)
    return u * kernel_size + v


def bilinear_cells(
    offset: Float[Tensor, "*E 2"], kernel_size: int
) -> tuple[Int64[Tensor, "*E 4"], Float[Tensor, "*E 4"]]:
    """Return the four cells of the reference kernel around each offset, and the share of each.

    Args:
        offset: Position in the kernel, ``[..., 2]``; beyond [-1, 1], infinite ones included, the
            nearest edge.
        kernel_size: Side of the reference kernel.

    Returns:
        Cells, numbered as by :func:`nearest_cell`, and shares, which sum to one and are piecewise
        bilinear, so continuous, in the offset; both ``[..., 4]``.

    Raises:
        ValueError, TypeError: As :func:`nearest_cell`.
    """
    kernel_size = check_kernel_size(kernel_size)
    if not torch.compiler.is_compiling():
        _not_nan("offset", float_tensor("offset", offset, ("...", 2)))
    place = (offset.clamp(-1, 1) + 1) / 2 * (kernel_size - 1)
    # Where values cannot be looked at, NaN gives shares of NaN, and cells that there are.
    low = place.detach().nan_to_num(nan=0.0).floor().clamp(max=max(kernel_size - 2, 0))
    along = place - low
    low_u, low_v = low.long().unbind(-1)
    high_u, high_v = (low.long() + 1).clamp(max=kernel_size - 1).unbind(-1)
    u, v = along.unbind(-1)
    cell = [i * kernel_size + j for i in (low_u, high_u) for j in (low_v, high_v)]
    share = [a * b for a in (1 - u, u) for b in (1 - v, v)]
    return torch.stack(cell, dim=-1), torch.stack(share, dim=-1)


def row_ptr(key: Int64[Tensor, " E"], rows: int) -> Int64[Tensor, " {rows}+1"]:
    """Where each of ``rows`` rows begins in a list whose rows are ``key``, ascending."""
    return torch.searchsorted(key, torch.arange(rows + 1, device=key.device))


def check_kernel_size(value: Any) -> int:
    """Return the side of a reference kernel as an int, or say which are allowed."""
    return positive_int("kernel_size", value, MAX_KERNEL_SIZE)


def _check_triples(
    dst: Any, src: Any, cell: Any, share: Any, num_dst: Any, num_src: Any, num_cells: Any
) -> None:
    index_tensor("dst", dst, ("E",))
    index_tensor("src", src, tuple(dst.shape))
    index_tensor("cell", cell, tuple(dst.shape))
    if share is not None:
        finite("share", float_tensor("share", share, tuple(dst.shape)))
    same_device(dst=dst, src=src, cell=cell, share=share)
    check_below("dst", dst, num_dst=_node_count("num_dst", num_dst))
    check_below("src", src, num_src=_node_count("num_src", num_src))
    _check_cells(cell, num_cells)
    if may_inspect(dst) and (dst.diff() < 0).any():
        raise ValueError(
            "dst must be ascending, got it in another order; KernelMap.from_edges takes any"
        )


def _check_cells(cell: Tensor, num_cells: Any) -> None:
    count = positive_int("num_cells", num_cells, MAX_KERNEL_SIZE**2)
    check_below("cell", cell, num_cells=count)


def _check_edges(edge_index: Any, num_dst: Any, num_src: Any) -> None:
    index_tensor("edge_index", edge_index, (2, "E"))
    check_below("edge_index[1]", edge_index[1], num_dst=_node_count("num_dst", num_dst))
    check_below("edge_index[0]", edge_index[0], num_src=_node_count("num_src", num_src))


def _node_count(name: str, value: Any) -> int:
    return whole_number(name, value, most=1 << 31)


def _not_nan(name: str, values: Tensor) -> None:
    if may_inspect(values) and values.isnan().any():
        nans = int(values.isnan().sum())
        raise ValueError(f"{name} must be numbers, got {nans} of {values.numel()} that are NaN")
