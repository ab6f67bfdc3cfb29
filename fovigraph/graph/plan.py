"""A pyramid that is described layer by layer, where the layers are made."""

from __future__ import annotations

import math

from fovigraph._checks import instance, one_of, positive_int, whole_number
from fovigraph.geometry import SensorArray
from fovigraph.graph.kernel_map import check_kernel_size
from fovigraph.graph.knn_graph import METRICS
from fovigraph.graph.pyramid import GraphPyramid
from fovigraph.graph.step import Connection, Step, step_connection


class Plan:
    """The steps of a pyramid, asked for by the layers that take them.

    Every call adds a step or a connection and returns it; node counts are known at once, and no
    neighbour is searched before :meth:`build`.

    Args:
        start: The retina, or a ready pyramid: :meth:`build` then returns that very pyramid, which
            the steps must fit (to share one between networks, or with neighbours found elsewhere).
        metric: Nearness that neighbours are found by: see :func:`~fovigraph.knn_graph`; with a
            ready pyramid, that of the pyramid.

    Attributes:
        levels: The arrays so far, from the retina up.
        steps: The steps so far.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.

    Example:
        >>> import fovigraph as fg
        >>> plan = fg.Plan(fg.SensorArray.matched(64))
        >>> start = plan.level
        >>> conv = plan.conv(k=9, stride=2)
        >>> shortcut = plan.between(start, plan.level, k=1)
        >>> conv.num_dst, shortcut.num_dst
        (964, 964)
        >>> plan.build()
        GraphPyramid(retina 4085 → conv1 964)
    """

    def __init__(self, start: SensorArray | GraphPyramid, metric: str | None = None):
        self._ready = start if isinstance(start, GraphPyramid) else None
        if self._ready is None and not isinstance(start, SensorArray):
            instance("start", start, SensorArray, allowed="a SensorArray or a GraphPyramid")
        retina = self._ready.levels[0] if self._ready is not None else start
        usual = "cortical" if self._ready is None else self._ready.metric
        self.metric = usual if metric is None else one_of("metric", metric, METRICS)
        if self._ready is not None and self.metric != usual:
            raise ValueError(f"metric must be {usual!r}, that of the pyramid, got {metric!r}")
        self.levels: list[SensorArray] = [retina]  # type: ignore[list-item]  # seen to above
        self.steps: list[Step] = []
        self._between: list[Connection] = []

    @property
    def level(self) -> int:
        """Index of the highest level so far."""
        return len(self.levels) - 1

    @property
    def num_nodes(self) -> int:
        """Nodes of the highest level so far."""
        return len(self.levels[-1])

    def conv(
        self,
        k: int | None = None,
        stride: float = 1,
        *,
        side: int | None = None,
        kernel_size: int | None = None,
    ) -> Connection:
        """Add a convolution's step; arguments are as for :class:`~fovigraph.Step`."""
        return self.add(Step("conv", k=k, stride=stride, side=side, kernel_size=kernel_size))

    def pool(
        self,
        mode: str = "max",
        k: int | None = None,
        stride: float = 1,
        *,
        side: int | None = None,
    ) -> Connection:
        """Add a pool's step; arguments are as for :class:`~fovigraph.Step`."""
        return self.add(Step("pool", k=k, stride=stride, side=side, mode=mode))

    def add(self, step: Step) -> Connection:
        """Add a step from the highest level to a new one.

        Raises:
            ValueError: If the ready pyramid takes another step there.
        """
        instance("step", step, Step)
        index, above = self.level, step.next_level(self.levels[-1])
        connection = step_connection(step, index, (self.levels[-1], above), metric=self.metric)
        if self._ready is not None:
            self._check_fit(connection, above)
            connection = self._ready.connections[index]
        self.steps.append(step)
        self.levels.append(above)
        return connection

    def _check_fit(self, connection: Connection, above: SensorArray) -> None:
        assert self._ready is not None
        pyramid, index = self._ready, connection.src
        if index >= len(pyramid.steps):
            raise ValueError(
                f"the pyramid must have a step {index}, a {connection.kind} to {above}, and ends "
                f"at {pyramid.names[-1]!r} after {len(pyramid.steps)} steps"
            )
        there, name = pyramid.connections[index], pyramid.names[index + 1]
        wanted = (connection.kind, above, connection.kernel_size)
        found = (there.kind, pyramid.levels[index + 1], there.kernel_size)
        for what, own, other in zip(("kind", "level", "kernel_size"), wanted, found, strict=True):
            if own != other:
                raise ValueError(
                    f"the pyramid's step {index}, to {name!r}, must have the {what} {own}, "
                    f"got {other}"
                )
        if connection.k != there.k:
            raise ValueError(
                f"the pyramid's step {index}, to {name!r}, must have k={connection.k}, "
                f"got {there.k}"
            )

    def between(self, src: int, dst: int, k: int, *, kernel_size: int | None = None) -> Connection:
        """Add a graph between any two levels there are so far, such as that of a shortcut.

        Args:
            src, dst: Indices of the levels (:attr:`level`); they may be the same.
            k: Neighbours of every node of ``dst``, padding among them, as in a convolution.
            kernel_size: Side of the reference kernel; ``None`` means ``ceil(sqrt(k))``.

        Raises:
            ValueError, TypeError: If there is no such level, or an argument is not of its kind.
        """
        for name, value in (("src", src), ("dst", dst)):
            whole_number(name, value, 0, self.level)
        below, above = self.levels[src], self.levels[dst]
        k = min(positive_int("k", k), len(below))
        size = math.ceil(math.sqrt(k)) if kernel_size is None else check_kernel_size(kernel_size)
        connection = Connection(src, dst, k, size, "between", len(below), len(above))
        if connection not in self._between:
            self._between.append(connection)
        return connection

    def build(self) -> GraphPyramid:
        """Return the pyramid of all steps and connections: the ready one, if there is one.

        Raises:
            ValueError: If the ready pyramid has more steps than were asked for.
        """
        pyramid = self._ready
        if pyramid is None:
            pyramid = GraphPyramid(self.levels[0], self.steps, self.metric)
        elif len(pyramid.steps) != len(self.steps):
            raise ValueError(
                f"the pyramid must end after {len(self.steps)} steps, at "
                f"{pyramid.names[len(self.steps)]!r}, got {len(pyramid.steps)} steps"
            )
        for connection in self._between:
            pyramid.connect(connection)
        return pyramid
