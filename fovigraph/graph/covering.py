"""How many neighbours it takes until every node is some neighbour."""

from __future__ import annotations

import torch
from torch import Tensor

from fovigraph._checks import instance, one_of
from fovigraph.geometry import SensorArray
from fovigraph.geometry.fixed import isolated
from fovigraph.graph.knn_graph import knn_graph

CANDIDATES = 1 << 24
"""Distances held at a time."""


@isolated
def covering_k(src: SensorArray, dst: SensorArray, metric: str = "cortical") -> int:
    """Return the smallest k for which the k nearest of all nodes of ``dst`` cover ``src``.

    Padding points compete for a place among the k, but need not be covered. The patch embedding of
    a vision transformer takes this k, so that no sample is lost (FOVI, Blauch, Alvarez & Konkle
    2026).

    Args:
        src: The nodes to cover.
        dst: The nodes whose neighbourhoods cover them, such as the patches.
        metric: ``"cortical"`` or ``"visual"``: see :func:`~fovigraph.knn_graph`.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.

    Example:
        >>> import fovigraph as fg
        >>> retina = fg.SensorArray.matched(32)
        >>> patches = retina.with_side(8, at_least=True)
        >>> k = fg.graph.covering_k(retina, patches)
        >>> len(fg.knn_graph(retina, patches, k).edge_index[0].unique()) == len(retina)
        True
    """
    instance("src", src, SensorArray)
    instance("dst", dst, SensorArray)
    if one_of("metric", metric, ("cortical", "visual")) == "visual":
        nodes, padding, queries = src.cartesian, src.padding_cartesian, dst.cartesian
    else:
        nodes, padding, queries = src.cortical, src.padding_cortical, dst.cortical
    if dst.mask is not None:
        queries = queries[dst.mask]
    best = _best_ranks(torch.cat((nodes, padding)), len(nodes), queries)
    k = int((best if src.mask is None else best[src.mask]).max()) + 1
    # Ties are broken by knn_graph's rule, which an order by distance does not know.
    while not _covers(src, dst, k, metric):
        k += 1
    while k > 1 and _covers(src, dst, k - 1, metric):
        k -= 1
    return k


def _best_ranks(points: Tensor, num_nodes: int, queries: Tensor) -> Tensor:
    """Return the nodes' best places among the points nearest to a query, from 0, ``[N]``."""
    best = torch.full((num_nodes,), len(points), dtype=torch.int64)
    place = torch.arange(len(points))
    for some in queries.split(max(1, CANDIDATES // len(points))):
        order = torch.cdist(some, points).argsort(dim=1)
        rank = torch.empty_like(order).scatter_(1, order, place.expand_as(order))
        best = torch.minimum(best, rank[:, :num_nodes].amin(0))
    return best


def _covers(src: SensorArray, dst: SensorArray, k: int, metric: str) -> bool:
    nodes = len(src) if src.mask is None else int(src.mask.sum())
    return len(knn_graph(src, dst, k, metric).edge_index[0].unique()) == nodes
