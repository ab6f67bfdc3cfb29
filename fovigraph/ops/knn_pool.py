"""Pooling over neighbourhoods: gather rows, reduce them segment by segment (torch-scatter)."""

from __future__ import annotations

import math

from torch import Tensor
from torch_geometric.utils import segment

from fovigraph.ops.rows import node_rows


def knn_pool(
    x: Tensor, src: Tensor, ptr: Tensor, reduce: str, edge_weight: Tensor | None = None
) -> Tensor:
    """Reduce the features of every destination's neighbours.

    Args:
        x: Features of the sources, ``[*, num_src, C]``.
        src: Sources of the edges, sorted by destination, ``[E]``.
        ptr: Where each destination's edges begin, ``[num_dst + 1]``.
        reduce: ``"max"``, ``"mean"`` or ``"sum"``.
        edge_weight: Factor of every edge's features, ``[E]``.

    Returns:
        ``[*, num_dst, C]``; zero where a destination has no neighbours.
    """
    flat = x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])
    gathered = node_rows(flat).index_select(0, src)
    if edge_weight is not None:
        gathered = gathered * edge_weight[:, None]
    pooled = segment(gathered, ptr, reduce=reduce)
    out = pooled.view(len(ptr) - 1, *flat.shape[::2]).transpose(0, 1)
    return out.reshape(*x.shape[:-2], *out.shape[-2:])
