"""The graph pyramid: every level of a network and every edge between its levels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from fovigraph._checks import flag, instance, one_of, positive_int, shown
from fovigraph._pictures import pyramid_html
from fovigraph.geometry import SensorArray
from fovigraph.geometry.fixed import isolated
from fovigraph.geometry.layout import MAX_SIDE
from fovigraph.graph.hetero import (
    edge_types,
    not_as_written,
    read_graphs,
    read_recipe,
    to_hetero_data,
)
from fovigraph.graph.kernel_map import check_kernel_size
from fovigraph.graph.knn_graph import METRICS, KNNGraph, knn_graph
from fovigraph.graph.lateral import lateral_graph, up_graph

T = TypeVar("T")

KINDS = ("conv", "pool")
POOL_MODES = ("gaussian", "max", "mean", "sum")


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

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.
    """

    kind: str
    k: int | None = None
    stride: int = 1
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
        positive_int("stride", self.stride)
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

    def neighbours(self, src: SensorArray, dst: SensorArray) -> int:
        """Return the number of neighbours of the graph from ``src`` to ``dst``."""
        src, dst = instance("src", src, SensorArray), instance("dst", dst, SensorArray)
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
        ValueError, TypeError: If an argument is not of the kind said above; if a ready-made graph
            does not lead from its level to the next, or their number is another than that of the
            steps.

    Example:
        >>> from fovigraph import GraphPyramid, SensorArray, Stage
        >>> retina = SensorArray.matched(64)
        >>> GraphPyramid(retina, [Stage("conv", k=49, stride=2), Stage("pool", k=9, stride=2)])
        GraphPyramid(retina 4085 → conv1 964 → pool1 230)
    """

    graphs: Sequence[KNNGraph]
    beside: Any

    @isolated
    def __init__(
        self,
        retina: SensorArray,
        stages: Iterable[Stage],
        metric: str = "cortical",
        graphs: Sequence[KNNGraph] | None = None,
    ):
        super().__init__()
        instance("retina", retina, SensorArray)
        self.stages = _all_of("stages", stages, Stage)
        self.metric = one_of("metric", metric, METRICS)
        graphs = None if graphs is None else _all_of("graphs", graphs, KNNGraph)
        if graphs is not None and len(graphs) != len(self.stages):
            raise ValueError(
                f"graphs must be one for each of the {len(self.stages)} stages, got {len(graphs)}"
            )
        ready, graphs = graphs, []
        self.levels, self.names = _climb(retina, self.stages)
        made: dict[tuple[SensorArray, SensorArray, int], KNNGraph] = {}
        for index, stage in enumerate(self.stages):
            src, dst = self.levels[index : index + 2]
            if ready is not None:
                graphs.append(_joining(src, dst, ready[index], index))
            else:
                key = (src, dst, stage.neighbours(src, dst))
                if key not in made:
                    made[key] = knn_graph(*key, metric=metric)
                graphs.append(made[key])
        self.graphs = nn.ModuleList(graphs)  # type: ignore[assignment]
        self.beside = nn.ModuleList()  # lateral and up graphs, made when asked for
        self._beside_index: dict[tuple[Any, ...], int] = {}
        self.kernel_sizes = tuple(
            (stage.kernel_size or math.ceil(math.sqrt(graph.k))) if stage.kind == "conv" else None
            for stage, graph in zip(self.stages, graphs, strict=True)
        )

    def __len__(self) -> int:
        return len(self.levels)

    def __getitem__(self, level: int | str) -> SensorArray:
        """Return a level by its name or its index; as :meth:`level_index` raises."""
        return self.levels[self.level_index(level)]

    def __iter__(self) -> Iterator[SensorArray]:
        return iter(self.levels)

    def __contains__(self, level: object) -> bool:
        """Whether there is a level of this name, or this level."""
        return level in self.names or any(level is each for each in self.levels)

    def level_index(self, level: int | str) -> int:
        """Return the index of a level given by its index or its name.

        Raises:
            ValueError, TypeError: If there is no such level.
        """
        return self._index("level", level)

    def _index(self, name: str, level: Any) -> int:
        if isinstance(level, str):
            return self.names.index(one_of(name, level, self.names))
        if not isinstance(level, Integral) or isinstance(level, bool):
            raise TypeError(f"{name} must be an index or a name, got {shown(level)}")
        if not 0 <= int(level) < len(self):
            raise ValueError(f"{name} must be from 0 to {len(self) - 1}, got {shown(level)}")
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
        top, bottom = self.level_index(level), self._index("source", source)
        if bottom > top:
            raise ValueError(f"source must not lie above level {level!r}, got {source!r}")
        if not isinstance(unit, Integral) or isinstance(unit, bool):
            raise TypeError(f"unit must be a whole number, got {shown(unit)}")
        if not 0 <= int(unit) < len(self.levels[top]):
            raise ValueError(
                f"unit must be from 0 to {len(self.levels[top]) - 1} at level "
                f"{self.names[top]!r}, got {shown(unit)}"
            )
        return self._paths(top, int(unit), bottom)

    @isolated
    def _paths(self, top: int, unit: int, bottom: int) -> ReceptiveField:
        paths = torch.zeros(len(self.levels[top]), dtype=torch.float64)
        paths[unit] = 1
        for index in range(top - 1, bottom - 1, -1):
            src, dst = self.graphs[index].fixed_tensors()["edge_index"].cpu()
            below = paths.new_zeros(len(self.levels[index]))
            paths = below.index_add_(0, src, paths[dst])
        nodes = paths.nonzero().squeeze(1)
        return ReceptiveField(nodes, paths[nodes])

    def lateral(self, level: int | str, k: int, *, self_loops: bool = False) -> KNNGraph:
        """Return the graph from every node of a level to its k nearest in the same level.

        Any PyG operator runs on it: ``edge_index``, and as edge attributes ``distance`` (the
        pyramid's metric: millimetres of cortex unless said otherwise), ``offset``, or both
        together, ``edge_attr``. Padding counts among the k, as in a convolution, so that nodes at
        the border have fewer. Made once, and then the same object every time.

        Args:
            level: The level, by index or name.
            k: Neighbours of every node.
            self_loops: Whether a node is its own first neighbour.

        Raises:
            ValueError, TypeError: If there is no such level, or ``k`` is more than it has.
        """
        array = self.levels[self.level_index(level)]
        key = ("lateral", array, positive_int("k", k), flag("self_loops", self_loops))
        return self._beside(
            key, lambda: lateral_graph(array, k, self_loops=self_loops, metric=self.metric)
        )

    def up(self, level: int | str, k: int = 3) -> KNNGraph:
        """Return the graph from a level back to the one below it.

        What :class:`~fovigraph.nn.KNNUnpool` interpolates over: every node of the level below has
        edges from its k nearest nodes of ``level``, nearest on the cortex and none of them padding.
        Made once, and then the same object every time.

        Args:
            level: The level that edges come from, by index or name; not the retina.
            k: Neighbours of every node of the level below.

        Raises:
            ValueError, TypeError: If there is no such level, or ``k`` is more than it has.
        """
        index = self.level_index(level)
        if index == 0:
            raise ValueError(f"level must be above the retina, got {level!r}")
        src, dst = self.levels[index], self.levels[index - 1]
        return self._beside(("up", src, dst, positive_int("k", k)), lambda: up_graph(src, dst, k))

    def _beside(self, key: tuple[Any, ...], make: Callable[[], KNNGraph]) -> KNNGraph:
        if key not in self._beside_index:
            graph = make()
            other = next(iter((*self.graphs, *self.beside)), None)
            if other is not None:
                graph.to(other.distance)  # its device and precision
            self._beside_index[key] = len(self.beside)
            self.beside.append(graph)
        return self.beside[self._beside_index[key]]

    def to_hetero_data(self, lateral: int | None = None, up: int | None = None) -> HeteroData:
        """Return the pyramid as PyG data.

        Node types are the level names, with ``cartesian`` (also as ``pos``), ``polar`` and
        ``cortical`` coordinates in single precision. Edge types are ``(lower, kind, upper)`` for
        every step, ``kind`` being ``"conv"`` or ``"pool"``; ``(level, "lateral", level)``; and
        ``(upper, "up", lower)``; each with ``edge_index``, ``distance`` (millimetres), ``offset``,
        ``relative_distance`` and, for a convolution, the kernel ``cell``. ``recipe``, a string,
        says what else :meth:`from_hetero_data` needs.

        Args:
            lateral: Neighbours within every level (as many as there are, in a smaller one), as
                :meth:`lateral` has them; ``None``: no lateral edges.
            up: Neighbours of the way back from every level but the lowest, as :meth:`up` has them;
                ``None``: no such edges.

        Raises:
            ValueError, TypeError: If a number of neighbours is not a whole number of at least 1.
        """
        return to_hetero_data(self, lateral, up)

    @classmethod
    def from_hetero_data(cls, data: HeteroData) -> GraphPyramid:
        """Return the pyramid that :meth:`to_hetero_data` made ``data`` of.

        Its graphs are those in ``data``, bit by bit. Lateral and ``up`` edges follow from the
        levels, so they are not read; features that ``data`` carries are left alone.

        Raises:
            ValueError, TypeError: If ``data`` is of another origin or a batch, or lacks a relation
                or one of its attributes, or if one does not fit the levels.
        """
        recipe = read_recipe(data)
        try:
            stages = [Stage(**step) for step in recipe["stages"]]
            levels, names = _climb(recipe["retina"], stages)
        except (TypeError, ValueError) as error:
            raise not_as_written(error) from error
        steps = edge_types(names, stages)
        graphs = read_graphs(data, steps, levels, recipe["k"], recipe["metric"])
        return cls(recipe["retina"], stages, recipe["metric"], graphs=graphs)

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

    def _repr_html_(self) -> str:
        return pyramid_html(self)

    def __repr__(self) -> str:
        steps = zip(self.names, self.levels, strict=True)
        return f"GraphPyramid({' → '.join(f'{name} {len(level)}' for name, level in steps)})"


def _climb(
    retina: SensorArray, stages: Iterable[Stage]
) -> tuple[tuple[SensorArray, ...], tuple[str, ...]]:
    """Return the levels that steps lead through from the retina, and their names."""
    levels, names = [retina], ["retina"]
    for stage in stages:
        levels.append(stage.next_level(levels[-1]))
        names.append(f"{stage.kind}{1 + sum(name.startswith(stage.kind) for name in names)}")
    return tuple(levels), tuple(names)


def _all_of(name: str, values: Iterable[T], kind: type[T]) -> tuple[T, ...]:
    try:
        items = tuple(values)
    except (TypeError, NotImplementedError):
        raise TypeError(f"{name} must be a list of {kind.__name__}, got {shown(values)}") from None
    return tuple(instance(f"{name}[{i}]", item, kind) for i, item in enumerate(items))


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
