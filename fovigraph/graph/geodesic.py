"""k nearest neighbours along the cortical surface (the extra ``geodesic``)."""

from __future__ import annotations

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from fovigraph.graph.search import k_nearest, select_nearest

CANDIDATES = 4
"""Candidates, nearest in a straight line, that surface distances are taken to, a neighbour."""


def k_nearest_geodesic(
    visual: Float64[Tensor, "P 2"],
    cortical: Float64[Tensor, "P D"],
    dst_visual: Float64[Tensor, "N 2"],
    dst_cortical: Float64[Tensor, "N D"],
    k: int,
    *,
    most: int | None = None,
    from_node: bool = False,
) -> tuple[Int64[Tensor, "N {k}"], Float64[Tensor, "N {k}"]]:
    """Find the k points nearest to every destination along the surface, ties to the lower index.

    The surface around a destination is the Delaunay triangulation, in the visual field, of the
    4 k points that are nearest in a straight line; paths on it are exact.

    Args:
        visual, cortical: The points, ``[P, 2]`` and ``[P, 3]``, on a flat surface ``[P, 2]``.
        dst_visual, dst_cortical: The destinations, likewise.
        k: Number of neighbours, at most P.
        most: Most points that the surface is made of, at least k; ``None``: all there are.
        from_node: As for :func:`geodesic_distances`.

    Returns:
        Indices ``[N, k]``, ascending in each row, and distances along the surface.

    Raises:
        ImportError: If pygeodesic is not installed.
    """
    count = CANDIDATES * k if most is None else min(CANDIDATES * k, most)
    near, apart = geodesic_distances(
        visual, cortical, dst_visual, dst_cortical, count, from_node=from_node
    )
    index, distance, _ = select_nearest(near, apart, k)
    return index, distance


def geodesic_distances(
    visual: Float64[Tensor, "P 2"],
    cortical: Float64[Tensor, "P D"],
    dst_visual: Float64[Tensor, "N 2"],
    dst_cortical: Float64[Tensor, "N D"],
    count: int,
    *,
    from_node: bool = False,
) -> tuple[Int64[Tensor, "N K"], Float64[Tensor, "N K"]]:
    """Measure how far along the surface the points nearest in a straight line are.

    Args:
        visual, cortical, dst_visual, dst_cortical: As for :func:`k_nearest_geodesic`.
        count: Number of points K for every destination, which the surface is made of; all, if
            there are fewer.
        from_node: Measure from the point nearest to the destination, as upstream does, instead of
            from the destination itself.

    Returns:
        Indices ``[N, K]``, ascending in each row, and distances along the surface.

    Raises:
        ImportError: If pygeodesic is not installed.
    """
    try:
        from pygeodesic.geodesic import PyGeodesicAlgorithmExact
    except ImportError as error:
        raise ImportError(
            "metric='geodesic' needs pygeodesic: pip install 'fovigraph[geodesic]'"
        ) from error
    from scipy.spatial import Delaunay

    cortical, dst_cortical = _in_space(cortical), _in_space(dst_cortical)
    near, straight = k_nearest(cortical, dst_cortical, min(count, len(cortical)))
    apart = torch.full_like(straight, torch.inf)
    for row, candidates in enumerate(near):
        # The destination is a vertex of its own unless a candidate already lies there.
        here = int(straight[row].argmin())
        flat, solid = visual[candidates], cortical[candidates]
        if straight[row, here] > 1e-9 and not from_node:
            here = len(candidates)
            flat = torch.cat((flat, dst_visual[row, None]))
            solid = torch.cat((solid, dst_cortical[row, None]))
        if len(flat) < 4:  # too few for a surface: the straight line it is
            apart[row] = straight[row]
            continue
        faces = Delaunay(flat.numpy(), qhull_options="QJ").simplices
        walk, _ = PyGeodesicAlgorithmExact(solid.numpy(), faces).geodesicDistances([here])
        apart[row] = torch.from_numpy(walk)[: len(candidates)]
    return near, apart


def _in_space(points: Float64[Tensor, "P D"]) -> Float64[Tensor, "P 3"]:
    """Return points of a surface, those of a flat one at height 0."""
    return torch.nn.functional.pad(points, (0, 3 - points.shape[1]))
