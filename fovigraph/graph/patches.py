"""Graphs from the nodes of a retina to patches: overlapping, partitioning and covering ones."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fovigraph._checks import flag, instance, one_of, positive_float
from fovigraph.geometry import SensorArray
from fovigraph.geometry.fixed import isolated
from fovigraph.graph.geodesic import CANDIDATES, geodesic_distances
from fovigraph.graph.knn_graph import METRICS, KNNGraph, check_surfaces, connect, points_of
from fovigraph.graph.search import TIE, k_nearest, select_nearest
from fovigraph.graph.step import Step

PATCHES = ("cover", "knn", "partition")


@dataclass(frozen=True)
class PatchStep(Step):
    """The step from a retina to the patches of a vision transformer.

    Args:
        kind: ``"conv"``: a patch embedding is a convolution.
        patch_size: Side P of the patches that an image of the retina's side would be cut into,
            pixels: the patches are as many as a square of ``side // P`` has, about.
        patches: Which nodes a patch has. ``"cover"``: its k nearest, with the smallest k for which
            every node of the retina is in some patch. ``"partition"``: those that no other patch is
            nearer to (ties to the lower patch). ``"knn"``: its k nearest, k the area of a patch
            times ``overlap²``.
        overlap: How many times wider than their distance patches are, with ``"knn"``.
        fixed_k: Whether the overlap comes from more patches instead of larger ones: k is P², and
            the patches are as many as for a side of P / ``overlap``.
        at_least: Whether there are at least ``(side // P)²`` patches, or at most.
        inset: Whether the outermost patches lie half a ring within the edge of the field of view
            (:meth:`SensorArray.inset`).
        k, stride, side, kernel_size, mode: As for :class:`~fovigraph.Step`; only the
            ``kernel_size`` can be set.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.

    Example:
        >>> import fovigraph as fg
        >>> from fovigraph.graph import PatchStep
        >>> retina = fg.SensorArray.matched(32, cmf_a=2.0)
        >>> fg.GraphPyramid(retina, [PatchStep(patch_size=8)])
        GraphPyramid(retina 996 → conv1 23)
    """

    kind: str = "conv"
    patch_size: float = 8.0
    patches: str = "cover"
    overlap: float = 1.0
    fixed_k: bool = False
    at_least: bool = True
    inset: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("kind", self.kind, ("conv",))
        one_of("patches", self.patches, PATCHES)
        positive_float("patch_size", self.patch_size)
        positive_float("overlap", self.overlap, 0.1, 10.0)
        for name in ("fixed_k", "at_least", "inset"):
            flag(name, getattr(self, name))
        if self.patches != "knn" and (self.overlap != 1 or self.fixed_k):
            raise ValueError(
                f"overlap must be 1 and fixed_k False unless patches='knn', "
                f"got {self.overlap:g} and {self.fixed_k} with patches={self.patches!r}"
            )
        if self.k is not None or self.stride != 1 or self.side is not None:
            raise ValueError(
                f"k, stride and side must not be set for patches, got {self.k}, {self.stride} and "
                f"{self.side}"
            )

    def _patches_along(self, retina: SensorArray) -> int:
        """How many patches lie side by side."""
        if retina.side is None:
            raise ValueError(f"the retina must be matched to a side, got {retina}")
        stride = self.patch_size / (self.overlap if self.fixed_k else 1)
        count = int(retina.side // stride)
        if count < 1:
            raise ValueError(
                f"patch_size must be at most {retina.side}, the side that the retina is matched "
                f"to, got {self.patch_size:g}"
            )
        return count

    def next_level(self, level: SensorArray) -> SensorArray:
        retina = instance("level", level, SensorArray)
        patches = retina.with_side(self._patches_along(retina), at_least=self.at_least)
        return patches.inset() if self.inset else patches

    def neighbours(self, src: SensorArray, dst: SensorArray, metric: str = "cortical") -> int:
        if self.patches != "knn":
            return _neighbourhoods(self.patches, src, dst, metric)[0].shape[1]
        if self.fixed_k:
            return int(self.patch_size**2)
        wide = self.patch_size * self._patches_along(src) * self.overlap
        return max(1, int(wide**2 / len(dst)))

    def graph(self, src: SensorArray, dst: SensorArray, metric: str = "cortical") -> KNNGraph:
        if self.patches == "knn":
            return super().graph(src, dst, metric)
        return isolated(connect)(src, dst, metric, *_neighbourhoods(self.patches, src, dst, metric))


def read_step(arguments: Mapping[str, Any]) -> Step:
    """Return the step of these arguments, which ``dataclasses.asdict`` gave."""
    return PatchStep(**arguments) if "patch_size" in arguments else Step(**arguments)


@functools.lru_cache(maxsize=4)  # a plan needs k, and its pyramid then the neighbours
@isolated
def _neighbourhoods(
    patches: str, src: SensorArray, dst: SensorArray, metric: str
) -> tuple[Tensor, Tensor]:
    """Return the nodes and padding points of every patch, ``[N, k]``, and their distances.

    Empty slots are -1.
    """
    one_of("metric", metric, METRICS)
    check_surfaces(src, dst, metric)
    return (_covering if patches == "cover" else _partition)(src, dst, metric)


def _candidates(
    src: SensorArray, dst: SensorArray, metric: str, count: int
) -> tuple[Tensor, Tensor]:
    """Return ``count`` points near every destination, ascending, ``[N, count]``, and distances."""
    visual, cortical = points_of(src)
    if metric == "visual":
        return k_nearest(visual, dst.degrees, count)
    if metric == "cortical":
        return k_nearest(cortical, dst.cortical, count, src._layout.period)
    from_node = metric == "geodesic_from_node"
    return geodesic_distances(
        visual, cortical, dst.degrees, dst.cortical, count, from_node=from_node
    )


def _covering(src: SensorArray, dst: SensorArray, metric: str) -> tuple[Tensor, Tensor]:
    """Return the k nearest points of every patch, with the smallest k that leaves out no node.

    Of masked patches, which have no edges, and masked nodes, none counts.
    """
    points, wanted, patches = (
        len(src) + len(src.padding_cartesian),
        src.valid_nodes,
        dst.valid_nodes,
    )
    count = max(1, CANDIDATES * (len(wanted) // len(patches)))
    while True:
        count = min(count, points)
        near, apart = _candidates(src, dst, metric, count)
        if _covers(near[patches], wanted):
            break
        count *= 2
    # The place of every node among the nearest of the patch that has it earliest.
    order = apart.argsort(dim=1, stable=True)
    place = torch.arange(count).expand(len(patches), count)
    first = torch.full((points,), count).scatter_reduce(
        0, near.gather(1, order)[patches].flatten(), place.flatten(), "amin"
    )
    k = int(first[wanted].max()) + 1

    def nearest(k: int) -> tuple[Tensor, Tensor]:
        index, distance, _ = select_nearest(near, apart, k)
        return index, distance

    # Distances that tie are chosen by index, not by their rounding, which may shift k a little.
    while k < count and not _covers(nearest(k)[0][patches], wanted):
        k += 1
    while k > 1 and _covers(nearest(k - 1)[0][patches], wanted):
        k -= 1
    return nearest(k)


def _covers(index: Tensor, wanted: Tensor) -> bool:
    return bool(torch.isin(wanted, index).all())


def _partition(src: SensorArray, dst: SensorArray, metric: str) -> tuple[Tensor, Tensor]:
    """Return the nodes that are nearest to each patch, with empty slots after them.

    Masked nodes are in no patch, and masked patches have no nodes.
    """
    nodes = src.valid_nodes
    patch, apart = (each[nodes] for each in _nearest_patch(src, dst, metric))
    sizes = patch.bincount(minlength=len(dst))
    order = patch.argsort(stable=True)
    slot = torch.arange(len(nodes)) - (sizes.cumsum(0) - sizes)[patch[order]]
    index = torch.full((len(dst), int(sizes.max())), -1)
    distance = torch.zeros(index.shape, dtype=torch.float64)
    index[patch[order], slot], distance[patch[order], slot] = nodes[order], apart[order]
    return index, distance


def _nearest_patch(src: SensorArray, dst: SensorArray, metric: str) -> tuple[Tensor, Tensor]:
    """Return the patch nearest to every node, ``[num_src]``, and its distance."""
    patches = dst.valid_nodes
    ends = (dst.degrees, src.degrees) if metric == "visual" else (dst.cortical, src.cortical)
    period = None if metric == "visual" else src._layout.period
    nearest, apart = (each[:, 0] for each in k_nearest(ends[0][patches], ends[1], 1, period))
    straight = patches[nearest]
    if metric in ("visual", "cortical"):
        return straight, apart
    near, along = _candidates(src, dst, metric, max(1, CANDIDATES * (len(src) // len(dst))))
    points = len(src) + len(src.padding_cartesian)
    every = torch.full((len(dst), points), torch.inf, dtype=torch.float64)
    every[patches] = every[patches].scatter(1, near[patches], along[patches])
    every = every[:, : len(src)]
    least = every.amin(0)
    patch = (every <= least * (1 + TIE)).int().argmax(0)
    reached = least.isfinite()  # others are nearest in a straight line
    return torch.where(reached, patch, straight), torch.where(reached, least, apart)
