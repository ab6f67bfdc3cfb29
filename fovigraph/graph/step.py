"""How the levels of a pyramid are connected: its steps, and any other pair of levels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from fovigraph._checks import instance, one_of, positive_int
from fovigraph.geometry import SensorArray
from fovigraph.geometry.layout import MAX_SIDE, check_stride
from fovigraph.graph.kernel_map import check_kernel_size
from fovigraph.graph.knn_graph import KNNGraph, knn_graph

KINDS = ("conv", "pool")
POOL_MODES = ("gaussian", "max", "mean", "sum")


@dataclass(frozen=True)
class Step:
    """One step up a pyramid: what to do, over how many neighbours, and how coarse to become.

    Args:
        kind: ``"conv"`` or ``"pool"``.
        k: Neighbours; ``None`` spans the step: ``(2 · ceil(R_in / R_out))²``, R the resolutions.
        stride: How many times coarser the next level is, a number of at least 1.
        side: Instead of a stride, the side that the next level is matched to.
        kernel_size: Side of a convolution's reference kernel; ``None`` means ``ceil(sqrt(k))``.
        mode: How a pool reduces its neighbours, as :class:`~fovigraph.nn.KNNPool` names it.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.

    Example:
        >>> from fovigraph import SensorArray, Step
        >>> len(Step("conv", k=49, stride=2).next_level(SensorArray.matched(64)))
        964
    """

    kind: str
    k: int | None = None
    stride: float = 1
    side: int | None = None
    kernel_size: int | None = None
    mode: str = "max"

    def __post_init__(self) -> None:
        one_of("kind", self.kind, KINDS)
        one_of("mode", self.mode, POOL_MODES)
        if self.k is not None:
            positive_int("k", self.k)
        if self.side is not None:
            positive_int("side", self.side, MAX_SIDE)
        if self.kernel_size is not None:
            check_kernel_size(self.kernel_size)
        check_stride("stride", self.stride)
        if self.side is not None and self.stride != 1:
            raise ValueError(f"give stride={self.stride} or side={self.side}, not both")
        if self.kind == "pool" and self.kernel_size is not None:
            raise ValueError(f"kernel_size must be None for a pool, got {self.kernel_size}")

    def next_level(self, level: SensorArray) -> SensorArray:
        """Return the level that this step leads to from ``level``."""
        instance("level", level, SensorArray)
        if self.side is not None:
            return level.with_side(self.side)
        return level.strided(self.stride)

    def neighbours(self, src: SensorArray, dst: SensorArray, metric: str = "cortical") -> int:
        """Return the number of neighbours of the graph from ``src`` to ``dst``, before any cap.

        Args:
            src, dst: The levels below and above the step.
            metric: Nearness, where the number depends on it: see :func:`~fovigraph.knn_graph`.
        """
        src, dst = instance("src", src, SensorArray), instance("dst", dst, SensorArray)
        if self.k is not None:
            return self.k
        return (2 * math.ceil(src.resolution / dst.resolution)) ** 2

    def graph(self, src: SensorArray, dst: SensorArray, metric: str = "cortical") -> KNNGraph:
        """Return the graph of the step from ``src`` to ``dst``."""
        return knn_graph(src, dst, self.neighbours(src, dst, metric), metric)


@dataclass(frozen=True)
class Connection:
    """A graph from one level of a pyramid to another, by which a layer names where it runs.

    A :class:`~fovigraph.Plan` makes them. :meth:`GraphPyramid.graph` gives the graph.

    Attributes:
        src, dst: Indices of the two levels.
        k: Neighbours of every node of ``dst``: at most the nodes of ``src``.
        kernel_size: Side of the convolution's reference kernel; ``None`` for a pool.
        kind: ``"conv"`` or ``"pool"`` for a step from a level to the next, ``"between"`` for any
            other graph.
        num_src, num_dst: Nodes of the two levels.
    """

    src: int
    dst: int
    k: int
    kernel_size: int | None
    kind: str
    num_src: int
    num_dst: int


def climb(
    retina: SensorArray, steps: Iterable[Step]
) -> tuple[tuple[SensorArray, ...], tuple[str, ...]]:
    """Return the levels that steps lead through from the retina, and their names."""
    levels, names = [retina], ["retina"]
    for step in steps:
        levels.append(step.next_level(levels[-1]))
        names.append(f"{step.kind}{1 + sum(name.startswith(step.kind) for name in names)}")
    return tuple(levels), tuple(names)


def step_connection(
    step: Step,
    src: int,
    levels: tuple[SensorArray, SensorArray],
    k: int | None = None,
    metric: str = "cortical",
) -> Connection:
    """Return the connection that a step from the level of index ``src`` to the next is.

    Args:
        step: The step.
        src: Index of the level below it.
        levels: The levels below and above it.
        k: Neighbours in the step's graph; ``None``: those that the step asks for.
        metric: Nearness that these are found by.
    """
    below, above = levels
    k = min(step.neighbours(below, above, metric), len(below)) if k is None else k
    size = (step.kernel_size or math.ceil(math.sqrt(k))) if step.kind == "conv" else None
    return Connection(src, src + 1, k, size, step.kind, len(below), len(above))
