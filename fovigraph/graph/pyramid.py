"""The graph pyramid: every level of a network and every edge between its levels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from fovigraph._checks import one_of, positive_int
from fovigraph.geometry import SensorArray
from fovigraph.graph.knn_graph import KNNGraph, knn_graph

KINDS = ("conv", "pool")


@dataclass(frozen=True)
class Stage:
    """One step up a pyramid: what to do, over how many neighbours, and how coarse to become.

    Args:
        kind: ``"conv"`` or ``"pool"``.
        k: Neighbours; ``None`` spans the step: ``(2 · ceil(R_in / R_out))²``, R the resolutions.
        stride: How many times coarser the next level is.
        side: Instead of a stride, the side that the next level is matched to.
        kernel_size: Side of a convolution's reference kernel; ``None`` means ``ceil(sqrt(k))``.
        mode: How a pool reduces its neighbours, as :class:`~fovigraph.nn.KNNPool` names it.
    """

    kind: str
    k: int | None = None
    stride: int = 1
    side: int | None = None
    kernel_size: int | None = None
    mode: str = "max"

    def __post_init__(self) -> None:
        one_of("kind", self.kind, KINDS)
        for name in ("k", "side", "kernel_size"):
            if getattr(self, name) is not None:
                positive_int(name, getattr(self, name))
        positive_int("stride", self.stride)
        if self.side is not None and self.stride != 1:
            raise ValueError(f"give stride={self.stride} or side={self.side}, not both")
        if self.kind == "pool" and self.kernel_size is not None:
            raise ValueError(f"kernel_size must be None for a pool, got {self.kernel_size}")

    def next_level(self, level: SensorArray) -> SensorArray:
        """Return the level that this step leads to from ``level``."""
        if self.side is not None:
            return level.with_side(self.side)
        return level.strided(self.stride)

    def neighbours(self, src: SensorArray, dst: SensorArray) -> int:
        """Return the number of neighbours of the graph from ``src`` to ``dst``."""
        if self.k is not None:
            return self.k
        return (2 * math.ceil(src.resolution / dst.resolution)) ** 2


class ReceptiveField(NamedTuple):
    """The nodes that reach a unit, ``[M]``, ascending, and by how many paths each, ``[M]``."""

    nodes: Tensor
    paths: Tensor


class GraphPyramid(nn.Module):
    """A hierarchy of sensor arrays with the graphs that lead from each to the next.

    Networks are built *on* a pyramid: the geometry is computed once, and two networks can share it.
    Steps between the same two arrays with the same k share one graph.

    Args:
        retina: The lowest level, which images are sampled on.
        stages: The steps up, in order.
        metric: Nearness that neighbours are found by: see :func:`~fovigraph.knn_graph`.
        graphs: Ready-made graphs of the steps, in order; ``None``: :func:`~fovigraph.knn_graph`
            makes them.

    Attributes:
        levels: The arrays, from the retina up.
        names: Their names: ``"retina"``, ``"conv1"``, ``"pool1"``, …
        stages: The steps; the step ``stages[i]`` leads from level i to level i + 1.
        graphs: The graphs of the steps.
        kernel_sizes: Side of the reference kernel of every step; ``None`` for a pool.

    Raises:
        ValueError: If a ready-made graph does not lead from its level to the next, or their number
            is another than that of the steps.

    Example:
        >>> from fovigraph import GraphPyramid, SensorArray, Stage
        >>> retina = SensorArray.matched(64)
        >>> GraphPyramid(retina, [Stage("conv", k=49, stride=2), Stage("pool", k=9, stride=2)])
        GraphPyramid(retina 4085 → conv1 964 → pool1 230)
    """

    graphs: Sequence[KNNGraph]

    def __init__(
        self,
        retina: SensorArray,
        stages: Iterable[Stage],
        metric: str = "cortical",
        graphs: Sequence[KNNGraph] | None = None,
    ):
        super().__init__()
        self.stages = tuple(stages)
        self.metric = metric
        if graphs is not None and len(graphs) != len(self.stages):
            raise ValueError(
                f"graphs must be one for each of the {len(self.stages)} stages, got {len(graphs)}"
            )
        ready, graphs = graphs, []
        levels, names = [retina], ["retina"]
        made: dict[tuple[SensorArray, SensorArray, int], KNNGraph] = {}
        for index, stage in enumerate(self.stages):
            src, dst = levels[-1], stage.next_level(levels[-1])
            if ready is not None:
                graphs.append(_joining(src, dst, ready[index], index))
            else:
                key = (src, dst, stage.neighbours(src, dst))
                if key not in made:
                    made[key] = knn_graph(*key, metric=metric)
                graphs.append(made[key])
            levels.append(dst)
            names.append(f"{stage.kind}{1 + sum(name.startswith(stage.kind) for name in names)}")
        self.levels, self.names = tuple(levels), tuple(names)
        self.graphs = nn.ModuleList(graphs)  # type: ignore[assignment]
        self.kernel_sizes = tuple(
            (stage.kernel_size or math.ceil(math.sqrt(graph.k))) if stage.kind == "conv" else None
            for stage, graph in zip(self.stages, graphs, strict=True)
        )

    def __len__(self) -> int:
        return len(self.levels)

    def level_index(self, level: int | str) -> int:
        """Return the index of a level given by its index or its name.

        Raises:
            ValueError, TypeError: If there is no such level.
        """
        if isinstance(level, str):
            return self.names.index(one_of("level", level, self.names))
        if not isinstance(level, Integral) or isinstance(level, bool):
            raise TypeError(f"level must be an index or a name, got {level!r}")
        if not 0 <= level < len(self):
            raise ValueError(f"level must be from 0 to {len(self) - 1}, got {level}")
        return int(level)

    def receptive_field(self, level: int | str, unit: int, source: int | str = 0) -> ReceptiveField:
        """Return the nodes of a lower level that reach a unit, and by how many paths.

        Args:
            level: The unit's level, by index or name.
            unit: The unit's index within its level.
            source: The lower level to look at; the retina unless said otherwise.

        Returns:
            Nodes of ``source`` and the number of paths (float64, exact up to 2⁵³) from each.

        Raises:
            ValueError, TypeError: If there is no such level or unit, or ``source`` lies above
                ``level``.
        """
        top, bottom = self.level_index(level), self.level_index(source)
        if bottom > top:
            raise ValueError(f"source must not lie above level {level!r}, got {source!r}")
        if not isinstance(unit, Integral) or isinstance(unit, bool):
            raise TypeError(f"unit must be a whole number, got {unit!r}")
        if not 0 <= unit < len(self.levels[top]):
            raise ValueError(
                f"unit must be from 0 to {len(self.levels[top]) - 1} at level "
                f"{self.names[top]!r}, got {unit}"
            )
        paths = torch.zeros(len(self.levels[top]), dtype=torch.float64)
        paths[unit] = 1
        for index in range(top - 1, bottom - 1, -1):
            src, dst = self.graphs[index].edge_index.cpu()
            below = paths.new_zeros(len(self.levels[index]))
            paths = below.index_add_(0, src, paths[dst])
        nodes = paths.nonzero().squeeze(1)
        return ReceptiveField(nodes, paths[nodes])

    def to_hetero_data(self) -> HeteroData:
        """Return the pyramid as PyG data.

        Node types are the level names, with ``cartesian`` (also as ``pos``), ``polar`` and
        ``cortical`` coordinates in single precision. Edge types are ``(lower, kind, upper)`` with
        ``edge_index``, ``distance`` (millimetres), ``offset``, ``relative_distance`` and, for a
        convolution, the kernel ``cell``.
        """
        data = HeteroData()
        for name, level in zip(self.names, self.levels, strict=True):
            data[name].num_nodes = len(level)
            data[name].pos = data[name].cartesian = level.cartesian.float()
            data[name].polar = level.polar.float()
            data[name].cortical = level.cortical.float()
        for index, (stage, graph) in enumerate(zip(self.stages, self.graphs, strict=True)):
            edges = data[self.names[index], stage.kind, self.names[index + 1]]
            edges.edge_index = graph.edge_index
            edges.distance = graph.distance
            edges.offset = graph.offset
            edges.relative_distance = graph.relative_distance
            kernel_size = self.kernel_sizes[index]
            if kernel_size is not None:
                edges.cell = graph.kernel_map(kernel_size).cell
        return data

    def rows(self) -> list[dict[str, int | str | None]]:
        """Return one row a level: what :meth:`summary` prints."""
        table: list[dict[str, int | str | None]] = []
        for index, (name, level) in enumerate(zip(self.names, self.levels, strict=True)):
            graph = self.graphs[index - 1] if index else None
            kernel_size = self.kernel_sizes[index - 1] if index else None
            table.append(
                {
                    "level": name,
                    "nodes": len(level),
                    "resolution": level.resolution,
                    "k": graph.k if graph is not None else None,
                    "cells": kernel_size**2 if kernel_size else None,
                    "edges": graph.num_edges if graph is not None else None,
                }
            )
        return table

    def summary(self) -> str:
        """Return the levels and graphs as a table of text."""
        return format_table(self.rows())

    def __repr__(self) -> str:
        steps = zip(self.names, self.levels, strict=True)
        return f"GraphPyramid({' → '.join(f'{name} {len(level)}' for name, level in steps)})"


def _joining(src: SensorArray, dst: SensorArray, graph: KNNGraph, index: int) -> KNNGraph:
    if (graph.src, graph.dst) != (src, dst):
        raise ValueError(
            f"graphs[{index}] must lead from {src} to {dst}, got {graph.src} to {graph.dst}"
        )
    return graph


def format_table(rows: Sequence[dict[str, int | str | None]]) -> str:
    """Return rows with the same keys as aligned text, numbers to the right, ``None`` as blank."""
    columns = list(rows[0])

    def text(value: int | str | None) -> str:
        return "" if value is None else f"{value:,}" if isinstance(value, int) else value

    cells = [[text(row[column]) for column in columns] for row in rows]
    widths = [max(len(c), *(len(line[i]) for line in cells)) for i, c in enumerate(columns)]
    right = [any(isinstance(row[c], int) for row in rows) for c in columns]

    def line(values: Sequence[str]) -> str:
        padded = (
            value.rjust(width) if to_right else value.ljust(width)
            for value, width, to_right in zip(values, widths, right, strict=True)
        )
        return "  ".join(padded).rstrip()

    return "\n".join([line(columns), *map(line, cells)])
