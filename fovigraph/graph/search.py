"""k nearest neighbours with one answer everywhere: ties are broken by a stated rule.

Ring-shaped arrays are full of exact ties (mirror images), which rounding would decide differently
from one machine or library to the next. Here all candidates at the k-th distance, to a relative
:data:`TIE`, are tied, and among them the lowest indices win.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

TIE = 1e-6
"""Relative difference below which two distances are equal."""

_SPARE = 8
"""Neighbours asked for beyond k, so that most ties at the k-th are seen at the first search."""

_CHUNK = 1 << 20
"""Candidates whose distances are held at a time."""


def _torch_cluster_search() -> Callable[[Tensor, Tensor, int], Tensor]:
    from torch_cluster import knn

    def search(points: Tensor, queries: Tensor, k: int) -> Tensor:
        return knn(points, queries, k)[1].view(len(queries), k)

    return search


def _scipy_search(period: float | None = None) -> Callable[[Tensor, Tensor, int], Tensor]:
    from scipy.spatial import KDTree

    def search(points: Tensor, queries: Tensor, k: int) -> Tensor:
        # A size of 0 is that of a coordinate that does not run in a circle.
        box = None if period is None else [0.0] * (points.shape[1] - 1) + [period]
        tree = KDTree(points.numpy(), boxsize=box)
        _, index = tree.query(queries.numpy(), k=k, workers=-1)
        return torch.from_numpy(index).view(len(queries), k)

    return search


def length_of(step: Float64[Tensor, "*N D"], period: float | None = None) -> Float64[Tensor, "*N"]:
    """Return the lengths of steps, the last coordinate of which may run in a circle."""
    if period is None:
        return step.norm(dim=-1)
    around = step[..., -1:].abs().remainder(period)
    around = torch.minimum(around, period - around)
    return torch.cat((step[..., :-1], around), dim=-1).norm(dim=-1)


try:
    _search = _torch_cluster_search()
except (ImportError, OSError):  # not installed, or built for another torch
    _search = _scipy_search()


def k_nearest(
    points: Float64[Tensor, "P D"],
    queries: Float64[Tensor, "Q D"],
    k: int,
    period: float | None = None,
) -> tuple[Int64[Tensor, "Q {k}"], Float64[Tensor, "Q {k}"]]:
    """Find the k points nearest to every query, Euclidean, ties to the lower index.

    Args:
        points: ``[P, D]``.
        queries: ``[Q, D]``.
        k: Number of neighbours, at most P.
        period: Of the last coordinate, if it runs in a circle, from 0 to there.

    Returns:
        Indices of the neighbours, ``[Q, k]``, ascending in each row, and their distances.
    """
    search = _search if period is None else _scipy_search(period)
    index = torch.empty(len(queries), k, dtype=torch.int64)
    distance = torch.empty(len(queries), k, dtype=torch.float64)
    open_rows, width = torch.arange(len(queries)), k
    while len(open_rows):
        # The first search is a little wider than k, every further one twice as wide as the last.
        width = min(width + _SPARE if width == k else 2 * width, len(points))
        candidates = search(points, queries[open_rows], width)
        unresolved = []
        for rows, near in zip(
            open_rows.split(max(1, _CHUNK // width)),
            candidates.split(max(1, _CHUNK // width)),
            strict=True,
        ):
            step = points[near] - queries[rows, None]
            if period is None:
                apart = step.square_().sum(-1).sqrt_()
            else:
                apart = length_of(step, period)
            index[rows], distance[rows], resolved = select_nearest(near, apart, k)
            if width < len(points):
                unresolved.append(rows[~resolved])
        open_rows = torch.cat(unresolved) if unresolved else open_rows[:0]
    return index, distance


def select_nearest(
    near: Int64[Tensor, "Q K"], apart: Float64[Tensor, "Q K"], k: int
) -> tuple[Int64[Tensor, "Q {k}"], Float64[Tensor, "Q {k}"], Bool[Tensor, " Q"]]:
    """Choose k of the candidates in each row: the nearest, ties to the lower index.

    Args:
        near: Indices of the candidates, ``[Q, K]``.
        apart: Their distances, ``[Q, K]``.
        k: How many to choose, at most K.

    Returns:
        Indices ``[Q, k]``, ascending in each row; their distances; and whether each row is settled,
        ``[Q]``: none of its ties can lie beyond the candidates given.
    """
    kth = apart.kthvalue(k, dim=1, keepdim=True).values
    tied_or_nearer = apart <= kth * (1 + TIE)
    settled = ~tied_or_nearer.all(dim=1)
    surely = apart < kth * (1 - TIE)
    ties_wanted = k - surely.sum(dim=1, keepdim=True)
    order = near.argsort(dim=1)
    near, apart = near.gather(1, order), apart.gather(1, order)
    surely, tied = surely.gather(1, order), (tied_or_nearer & ~surely).gather(1, order)
    chosen = surely | (tied & (tied.cumsum(dim=1) <= ties_wanted))
    return near[chosen].view(-1, k), apart[chosen].view(-1, k), settled
