"""The graph pyramid: every level of a network and every edge between its levels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Integral
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from fovigraph._checks import flag, instance, one_of, positive_int, shown
from fovigraph._deprecated import renamed_argument, warn_renamed
from fovigraph._pictures import pyramid_html
from fovigraph._table import format_table
from fovigraph.geometry import SensorArray
from fovigraph.geometry.fixed import isolated
from fovigraph.graph import hetero
from fovigraph.graph.kernel_map import check_kernel_size
from fovigraph.graph.knn_graph import METRICS, KNNGraph, knn_graph
from fovigraph.graph.lateral import lateral_graph, up_graph
from fovigraph.graph.patches import read_step
from fovigraph.graph.step import Connection, Step, climb, step_connection

T = TypeVar("T")


class ReceptiveField(NamedTuple):
    """The nodes that reach a unit, ``[M]``, ascending, and by how many paths each, ``[M]``."""

    nodes: Tensor
    paths: Tensor


class GraphPyramid(nn.Module):
    """A hierarchy of sensor arrays with the graphs that lead from each to the next.

    Networks are built *on* a pyramid: the geometry is computed once, and two networks can share it.
    A graph is made once: steps between the same two arrays with the same k share one, and graphs
    between any two levels (:meth:`between`, :meth:`lateral`, :meth:`up`) are kept.

    Args:
        retina: The lowest level, which images are sampled on.
        steps: The steps up, in order.
        metric: Nearness that neighbours are found by: see :func:`~fovigraph.knn_graph`.
        graphs: Ready-made graphs of the steps, in order; ``None``: :func:`~fovigraph.knn_graph`
            makes them.

    Attributes:
        levels: The arrays, from the retina up.
        names: Their names: ``"retina"``, ``"conv1"``, ``"pool1"``, …
        steps: The steps; ``steps[i]`` leads from level i to level i + 1.
        graphs: The graphs of the steps.
        connections: Where every step leads, as a layer names the graph that it runs on.
        kernel_sizes: Side of the reference kernel of every step; ``None`` for a pool.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above; if a ready-made graph
            does not lead from its level to the next, or their number is another than that of the
            steps.

    Example:
        >>> from fovigraph import GraphPyramid, SensorArray, Step
        >>> retina = SensorArray.matched(64)
        >>> GraphPyramid(retina, [Step("conv", k=49, stride=2), Step("pool", k=9, stride=2)])
        GraphPyramid(retina 4085 → conv1 964 → pool1 230)
    """

    graphs: Sequence[KNNGraph]
    side_graphs: Any

    @renamed_argument("stages", "steps")
    @isolated
    def __init__(
        self,
        retina: SensorArray,
        steps: Iterable[Step],
        metric: str = "cortical",
        graphs: Sequence[KNNGraph] | None = None,
    ):
        super().__init__()
        instance("retina", retina, SensorArray)
        self.steps = _all_of("steps", steps, Step)
        self.metric = one_of("metric", metric, METRICS)
        ready = None if graphs is None else _all_of("graphs", graphs, KNNGraph)
        if ready is not None and len(ready) != len(self.steps):
            raise ValueError(
                f"graphs must be one for each of the {len(self.steps)} steps, got {len(ready)}"
            )
        self.levels, self.names = climb(retina, self.steps)
        made: list[KNNGraph] = []
        connections = []
        for index, step in enumerate(self.steps):
            src, dst = self.levels[index : index + 2]
            if ready is not None:
                graph = _joining(src, dst, ready[index], index)
                connection = step_connection(step, index, (src, dst), graph.k)
            else:
                connection = step_connection(step, index, (src, dst), metric=metric)
                graph = _same(made, src, dst, connection.k) or step.graph(src, dst, metric)
            made.append(graph)
            connections.append(connection)
        self.graphs = nn.ModuleList(made)  # type: ignore[assignment]
        self.connections = tuple(connections)
        self.kernel_sizes = tuple(connection.kernel_size for connection in connections)
        self.side_graphs = nn.ModuleList()  # made when asked for
        self._side_index: dict[tuple[Any, ...], int] = {}
        self._between: list[Connection] = []

    @property
    def stages(self) -> tuple[Step, ...]:
        """Deprecated: :attr:`steps`."""
        warn_renamed("GraphPyramid.stages", "GraphPyramid.steps")
        return self.steps

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

        Paths lead up, by steps and by connections past levels. Connections within a level, as those
        of attention, are no part of them: what networks reach through these as well is said by
        :meth:`fovigraph.models.Backbone.receptive_field`.

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
        reached = {top: torch.zeros(len(self.levels[top]), dtype=torch.float64)}
        reached[top][unit] = 1
        for index in range(top, bottom, -1):
            if index not in reached:
                continue
            for connection in self.connections_into(index):
                if connection.src < bottom:
                    continue
                src, dst = self.graph(connection).fixed_tensors()["edge_index"].cpu()
                below = reached.setdefault(
                    connection.src, reached[top].new_zeros(len(self.levels[connection.src]))
                )
                below.index_add_(0, src, reached[index][dst])
        paths = reached[bottom]
        nodes = paths.nonzero().squeeze(1)
        return ReceptiveField(nodes, paths[nodes])

    def connections_into(self, index: int) -> list[Connection]:
        """Return the connections that lead up into a level above the retina: step and shortcuts."""
        return [self.connections[index - 1], *self.shortcuts_into(index)]

    def shortcuts_into(self, index: int) -> list[Connection]:
        """Return the connections that lead up into a level, other than its step."""
        return [each for each in self._between if each.src < each.dst == index]

    def graph(self, connection: Connection) -> KNNGraph:
        """Return the graph that a layer runs on.

        Args:
            connection: A step's (:attr:`connections`), or one that :meth:`connect` knows.

        Raises:
            ValueError: If the pyramid has no such connection.
        """
        if connection.kind != "between":
            if connection.src < len(self.graphs):
                return self.graphs[connection.src]
        else:
            key = ("between", connection.src, connection.dst, connection.k)
            if key in self._side_index:
                return self.side_graphs[self._side_index[key]]  # type: ignore[no-any-return]
        raise ValueError(
            f"connection must be one of the pyramid's {len(self.connections)} steps or "
            f"{len(self._between)} other connections, got {connection}"
        )

    def connect(self, connection: Connection, graph: KNNGraph | None = None) -> KNNGraph:
        """Add the graph of a connection between two levels, as a :class:`~fovigraph.Plan` does.

        From then on it belongs to the pyramid: receptive fields lead through it where it leads up,
        and :meth:`to_hetero_data` carries it.

        Args:
            connection: The connection.
            graph: Its graph, found elsewhere; ``None``: the one that :meth:`between` makes.

        Raises:
            ValueError, TypeError: If the connection is not between two levels of this pyramid, or
                the graph does not join them.
        """
        if instance("connection", connection, Connection).kind != "between":
            return self.graph(connection)
        ends = (self.level_index(connection.src), self.level_index(connection.dst))
        nodes = tuple(len(self.levels[end]) for end in ends)
        if nodes != (connection.num_src, connection.num_dst):
            raise ValueError(
                f"connection must lead from {nodes[0]} to {nodes[1]} nodes, as levels "
                f"{self.names[ends[0]]!r} and {self.names[ends[1]]!r} have, got {connection}"
            )
        if graph is not None:
            self._give_graph(connection, graph)
        graph = self.between(connection.src, connection.dst, connection.k)
        if connection not in self._between:
            self._between.append(connection)
        return graph

    def between(self, src: int | str, dst: int | str, k: int = 1) -> KNNGraph:
        """Return the graph from the nodes of any level to those of any other, or of the same.

        The neighbourhoods are those of a convolution: a node of ``dst`` is connected to its k
        nearest of the nodes and padding points of ``src``. Made once, then the same object.

        Args:
            src: The level that edges come from, by index or name.
            dst: The level that edges go to.
            k: Neighbours of every node of ``dst``; capped at the nodes of ``src``.

        Raises:
            ValueError, TypeError: If there is no such level, or ``k`` is no whole number above 0.

        Example:
            >>> import fovigraph as fg
            >>> retina = fg.SensorArray.matched(32)
            >>> steps = [fg.Step("conv", k=9, stride=2), fg.Step("conv", k=9, stride=2)]
            >>> fg.GraphPyramid(retina, steps).between("retina", "conv2", k=1).num_edges
            60
        """
        below, above = self._index("src", src), self._index("dst", dst)
        ends = (self.levels[below], self.levels[above])
        k = min(positive_int("k", k), len(ends[0]))
        return self._side_graph(
            ("between", below, above, k),
            lambda: _same(self.graphs, *ends, k) or knn_graph(*ends, k, self.metric),
        )

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
        index = self.level_index(level)
        array, k = self.levels[index], positive_int("k", k)
        key = ("lateral", array, k, flag("self_loops", self_loops))
        return self._side_graph(
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
        key = ("up", src, dst, positive_int("k", k))
        return self._side_graph(key, lambda: up_graph(src, dst, k))

    def _side_graph(self, key: tuple[Any, ...], make: Callable[[], KNNGraph]) -> KNNGraph:
        if key not in self._side_index:
            graph = make()
            other = next(iter((*self.graphs, *self.side_graphs)), None)
            if other is not None:
                graph.to(other.distance)  # its device and precision
            self._side_index[key] = len(self.side_graphs)
            self.side_graphs.append(graph)
        return self.side_graphs[self._side_index[key]]  # type: ignore[no-any-return]

    def relations(self) -> dict[tuple[str, str, str], Connection]:
        """Return every step and connection by the name that PyG gives its edges.

        ``(lower level, "conv" or "pool", upper level)`` for a step, and
        ``(level, "between_k…", level)`` for a connection of k neighbours.
        """
        relations = {}
        for connection in (*self.connections, *self._between):
            kind = connection.kind
            kind = f"between_k{connection.k}" if kind == "between" else kind
            relations[self.names[connection.src], kind, self.names[connection.dst]] = connection
        return relations

    def to_hetero_data(self, lateral: int | None = None, up: int | None = None) -> HeteroData:
        """Return the pyramid as PyG data.

        Node types are the level names, with ``cartesian`` (also as ``pos``), ``polar`` and
        ``cortical`` coordinates in single precision. Edge types are ``(lower, kind, upper)`` for
        every step, ``kind`` being ``"conv"`` or ``"pool"``; ``(level, "between_k…", level)`` for
        every connection that :meth:`connect` added; ``(level, "lateral", level)``; and
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
        lateral = None if lateral is None else positive_int("lateral", lateral)
        up = None if up is None else positive_int("up", up)
        graphs = {name: self.graph(each) for name, each in self.relations().items()}
        sizes = {name: each.kernel_size for name, each in self.relations().items()}
        for below, level in enumerate(self.levels[1:]):
            if up is not None:
                edges = (self.names[below + 1], "up", self.names[below])
                graphs[edges] = self.up(below + 1, min(up, len(level.valid_nodes)))
        for index, (name, level) in enumerate(zip(self.names, self.levels, strict=True)):
            if lateral is not None and len(level) > 1:
                graphs[name, "lateral", name] = self.lateral(index, min(lateral, len(level) - 1))
        data = hetero.to_data(dict(zip(self.names, self.levels, strict=True)), graphs, sizes)
        between = [(each.src, each.dst, each.k, each.kernel_size) for each in self._between]
        k = [graph.k for graph in self.graphs]
        hetero.write_recipe(data, self.levels[0], self.steps, self.metric, k, between)
        return data

    @classmethod
    def from_hetero_data(cls, data: HeteroData) -> GraphPyramid:
        """Return the pyramid that :meth:`to_hetero_data` made ``data`` of.

        Its graphs are those in ``data``, bit by bit. Lateral and ``up`` edges follow from the
        levels, so they are not read; features that ``data`` carries are left alone.

        Raises:
            ValueError, TypeError: If ``data`` is of another origin or a batch, or lacks a relation
                or one of its attributes, or if one does not fit the levels.
        """
        recipe = hetero.read_recipe(data)
        try:
            steps = [read_step(arguments) for arguments in recipe["steps"]]
            levels, names = climb(recipe["retina"], steps)
            # Without neighbours: what they will be is in the data.
            ends = [(names[i], step.kind, names[i + 1]) for i, step in enumerate(steps)]
            between = [_read_between(levels, *each) for each in recipe["between"]]
        except (TypeError, ValueError) as error:
            raise hetero.not_as_written(error) from error
        levels_by_name = dict(zip(names, levels, strict=True))
        sizes = dict(zip(ends, recipe["k"], strict=True))
        graphs = hetero.read_graphs(data, levels_by_name, sizes, recipe["metric"])
        pyramid = cls(recipe["retina"], steps, recipe["metric"], graphs=graphs)
        for connection in between:
            pyramid._read_connection(data, connection)
        return pyramid

    def _read_connection(self, data: HeteroData, connection: Connection) -> None:
        """Take the graph of a connection between two levels from PyG data."""
        name = (self.names[connection.src], f"between_k{connection.k}", self.names[connection.dst])
        levels = dict(zip(self.names, self.levels, strict=True))
        [graph] = hetero.read_graphs(data, levels, {name: connection.k}, self.metric, self.graphs)
        self.connect(connection, graph)

    def _give_graph(self, connection: Connection, graph: KNNGraph) -> None:
        """Make a graph that of a connection between two levels."""
        src, dst = self.levels[connection.src], self.levels[connection.dst]
        if (graph.src, graph.dst, graph.k) != (src, dst, connection.k):
            raise ValueError(
                f"graph must lead from {src} to {dst} with k={connection.k}, "
                f"got {graph.src} to {graph.dst} with k={graph.k}"
            )
        key = ("between", connection.src, connection.dst, connection.k)
        if self._side_graph(key, lambda: graph) is not graph:
            raise ValueError(f"graph must be None: the pyramid has one already for {connection}")

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


def _all_of(name: str, values: Iterable[T], kind: type[T]) -> tuple[T, ...]:
    try:
        items = tuple(values)
    except (TypeError, NotImplementedError):
        raise TypeError(f"{name} must be a list of {kind.__name__}, got {shown(values)}") from None
    # Whoever follows older pages gives stages: an error that says so, until the alias goes.
    allowed = "a Step (stages were their former name)" if kind is Step else None
    return tuple(
        instance(f"{name}[{i}]", item, kind, allowed=allowed) for i, item in enumerate(items)
    )


def _joining(src: SensorArray, dst: SensorArray, graph: KNNGraph, index: int) -> KNNGraph:
    if (graph.src, graph.dst) != (src, dst):
        raise ValueError(
            f"graphs[{index}] must lead from {src} to {dst}, got {graph.src} to {graph.dst}"
        )
    return graph


def _same(
    graphs: Iterable[KNNGraph], src: SensorArray, dst: SensorArray, k: int
) -> KNNGraph | None:
    """Return the graph among ``graphs`` from one array to another over k neighbours, if any."""
    wanted = (src, dst, k)
    return next((graph for graph in graphs if (graph.src, graph.dst, graph.k) == wanted), None)


def _read_between(
    levels: Sequence[SensorArray], src: int, dst: int, k: int, kernel_size: int | None
) -> Connection:
    for end in (src, dst):
        if not isinstance(end, int) or not 0 <= end < len(levels):
            raise ValueError(f"there is no level {end!r}")
    positive_int("k", k)
    if kernel_size is not None:
        check_kernel_size(kernel_size)
    return Connection(src, dst, k, kernel_size, "between", len(levels[src]), len(levels[dst]))
