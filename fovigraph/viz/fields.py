"""The fields of all units of a level: where they lie, how large they are, and which gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import EllipseCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from fovigraph._checks import instance, positive_int, shown
from fovigraph.geometry import SensorArray
from fovigraph.graph import GraphPyramid
from fovigraph.models import Backbone
from fovigraph.viz import style
from fovigraph.viz.activations import features_at
from fovigraph.viz.arguments import check_backbone, indices_below
from fovigraph.viz.field import Field, drawn_nodes


class Ellipses(NamedTuple):
    """Ellipses with the centre and the second moments of M fields, in degrees.

    An evenly filled disc is its own ellipse.

    Attributes:
        center: x and y, ``[M, 2]``.
        axes: The longer and the shorter diameter, ``[M, 2]``.
        angle: Of the longer, radians from +x towards +y, ``[M]``.
    """

    center: np.ndarray
    axes: np.ndarray
    angle: np.ndarray

    @property
    def diameter(self) -> np.ndarray:
        """Diameters of the circles of the same area, ``[M]``."""
        return np.sqrt(self.axes.prod(axis=1))

    @property
    def eccentricity(self) -> np.ndarray:
        """How far the centres are from the point of gaze, ``[M]``."""
        return np.hypot(*self.center.T)


def field_ellipses(pyramid: GraphPyramid, level: int | str) -> Ellipses:
    """Return the ellipses of the receptive fields of all units of a level, weighted by paths.

    Those of units that see nothing, as masked ones, are NaN.

    Raises:
        ValueError, TypeError: If there is no such level, or ``pyramid`` is no pyramid.
    """
    instance("pyramid", pyramid, GraphPyramid)
    top = pyramid.level_index(level)
    moments = _moments(pyramid.levels[0])
    # Sums over paths of what lies at their lower ends are sums over edges, level by level.
    sums = [moments]
    for index in range(1, top + 1):
        here = moments.new_zeros(len(pyramid.levels[index]), 6)
        for connection in pyramid.connections_into(index):
            src, dst = pyramid.graph(connection).edge_index.cpu()
            here.index_add_(0, dst, sums[connection.src][src])
        sums.append(here)
    return _ellipses(sums[top])


def effective_fields(
    backbone: Backbone,
    level: int | str,
    units: Sequence[int] | Tensor,
    *,
    samples: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return how strongly every sample of the retina moves each unit, by the gradient.

    The gradient of the sum of a unit's channels with respect to the retina's samples, its length
    over their channels (the effective receptive field of Luo et al. 2016).

    Args:
        backbone: The network on its pyramid, in evaluation mode.
        level: The units' level, by index or name.
        units: Indices within the level, ``[U]``.
        samples: What the retina sampled, ``[N, C]`` or ``[B, N, C]``, over which the mean is taken;
            ``None``: Gaussian noise, ``[1, N, C]``.
        generator: Source of the noise; torch's global state if ``None``.

    Returns:
        ``[U, N]``, 0 or above, on the CPU.

    Raises:
        ValueError, TypeError: If there is no such level or unit, or an argument is of another type
            or shape.
    """
    backbone = check_backbone(backbone)
    pyramid = backbone.pyramid
    index = pyramid.level_index(level)
    where = f" at level {pyramid.names[index]!r}"
    chosen = indices_below("units", units, len(pyramid.levels[index]), where)
    units = torch.tensor(chosen, dtype=torch.int64)
    if generator is not None:
        instance("generator", generator, torch.Generator, allowed="a torch.Generator or None")
    if samples is None:
        samples = torch.randn(len(pyramid.levels[0]), backbone.in_channels, generator=generator)
    instance("samples", samples, Tensor, allowed="a torch.Tensor or None")
    if samples.ndim not in (2, 3) or not samples.is_floating_point():
        raise ValueError(
            "samples must be floating point, [N, C] or [B, N, C], "
            f"got {list(samples.shape)} of {samples.dtype}"
        )
    device = next(backbone.parameters()).device
    samples = samples.detach().reshape(-1, *samples.shape[-2:]).to(device)
    total = torch.zeros(len(units), len(pyramid.levels[0]), device=device)
    row = torch.arange(len(units))
    with torch.enable_grad(), _weights_at_rest(backbone):
        for sample in samples:
            # A copy for each unit: one pass back gives the gradients of all.
            inputs = sample.expand(len(units), -1, -1).contiguous().requires_grad_()
            features = features_at(backbone, index, inputs)
            (gradient,) = torch.autograd.grad(features[row, units].sum(), inputs)
            total += gradient.norm(dim=-1)
    return total.cpu() / len(samples)


@contextmanager
def _weights_at_rest(backbone: Backbone) -> Iterator[None]:
    """Return a context in which no gradients of weights are computed, as none are needed."""
    learnt = [weight for weight in backbone.parameters() if weight.requires_grad]
    try:
        for weight in learnt:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in learnt:
            weight.requires_grad_(True)


def plot_fields(
    pyramid: GraphPyramid, level: int | str, *, most: int = 80, ax: Axes | None = None
) -> Figure:
    """Draw the receptive fields of a level as ellipses in the visual field.

    Args:
        pyramid: The levels and graphs.
        level: Which level, by index or name; above the retina.
        most: Fields to draw at the most: of larger levels, an even choice.
        ax: Where to draw; a new figure if ``None``.

    Returns:
        The figure. Each ellipse has its field's centre and, at half the size so that they can be
        distinguished, its second moments (by paths).

    Raises:
        ValueError, TypeError: If there is no such level above the retina.
    """
    instance("pyramid", pyramid, GraphPyramid)
    index = _above_retina(pyramid, level)
    fields = _seen(field_ellipses(pyramid, index))
    chosen = _spread_out(len(fields.diameter), positive_int("most", most))
    field = Field(pyramid.levels[0])
    figure, ax = style.on_axes(ax, 6.2, 6.8)
    scale = ScalarMappable(Normalize(0, pyramid.levels[0].fov / 2), colormaps[style.COLORMAP])
    colors = scale.to_rgba(fields.eccentricity[chosen])
    longer, shorter = (fields.axes[chosen] / 2).T
    ax.add_collection(
        EllipseCollection(
            longer,
            shorter,
            np.degrees(fields.angle[chosen]),
            units="xy",
            offsets=fields.center[chosen],
            offset_transform=ax.transData,
            facecolors="none",
            edgecolors=colors,
            linewidths=1.2,
        )
    )
    ax.scatter(fields.center[chosen, 0], fields.center[chosen, 1], s=4, c=colors)
    ax.plot(*field.outline().T, color="#767676", linewidth=0.8)
    ax.plot(0, 0, "+", color="black", markersize=11)
    style.visual_axes(ax, 1.06 * field.limit)
    figure.colorbar(scale, ax=ax, shrink=0.7, label="eccentricity of the field's centre (degrees)")
    name, count = pyramid.names[index], len(fields.diameter)
    shown = f"{count:,} units" if len(chosen) == count else f"{len(chosen)} of {count:,} units"
    ax.set_title(f"Receptive fields of {shown}\nof {name!r}, at half their size", **style.TITLE)
    return figure


def plot_field_sizes(
    pyramid: GraphPyramid, *, levels: Sequence[int | str] | None = None, ax: Axes | None = None
) -> Figure:
    """Draw the diameter of receptive fields against eccentricity, level by level.

    Args:
        pyramid: The levels and graphs.
        levels: Which, by index or name; ``None``: all above the retina that have several nodes.
        ax: Where to draw; a new figure if ``None``.

    Returns:
        The figure, with a line fitted by least squares to the fields of each level that the edge
        of the field of view does not cut; those that it cuts are hollow.

    Raises:
        ValueError, TypeError: If there is no such level above the retina.
    """
    instance("pyramid", pyramid, GraphPyramid)
    fields = {pyramid.names[i]: _seen(field_ellipses(pyramid, i)) for i in _levels(pyramid, levels)}
    title, label = "Receptive fields grow with eccentricity", "diameter, by paths (degrees)"
    return _draw_sizes(fields, pyramid.levels[0].fov / 2, title, label, ax)


def plot_effective_field_sizes(
    backbone: Backbone,
    *,
    levels: Sequence[int | str] | None = None,
    units: int = 12,
    samples: Tensor | None = None,
    generator: torch.Generator | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the diameter of *effective* fields, those of the gradients, against eccentricity.

    Args:
        backbone: The network on its pyramid, in evaluation mode.
        levels: Which, by index or name; ``None``: all above the retina that have several nodes and
            that a block ends on or gives.
        units: How many of each level, an even choice.
        samples, generator: As of :func:`effective_fields`.
        ax: Where to draw; a new figure if ``None``.

    Returns:
        The figure, with a line fitted by least squares to the fields of each level that the edge
        of the field of view does not cut; those that it cuts are hollow.

    Raises:
        ValueError, TypeError: If there is no such level above the retina, or ``units`` is below 1.
    """
    backbone = check_backbone(backbone)
    pyramid = backbone.pyramid
    positive_int("units", units)
    moments, fields = _moments(pyramid.levels[0]), {}
    if levels is None:  # features inside a block may not be known
        seen = backbone.features_by_level(backbone.zero_samples())
        levels = [index for index in _levels(pyramid, None) if index in seen]
    for index in _levels(pyramid, levels):
        nodes = drawn_nodes(pyramid.levels[index])
        chosen = nodes[_spread_out(len(nodes), units)]
        weights = effective_fields(
            backbone, index, torch.from_numpy(chosen), samples=samples, generator=generator
        )
        weights = weights[weights.sum(dim=1) > 0].double()  # a rectified unit may have no gradient
        if len(weights):
            fields[pyramid.names[index]] = _ellipses(weights @ moments)
    title, label = "Effective fields grow with eccentricity", "diameter, by gradient (degrees)"
    return _draw_sizes(fields, pyramid.levels[0].fov / 2, title, label, ax)


def _draw_sizes(
    fields: dict[str, Ellipses], edge: float, title: str, label: str, ax: Axes | None
) -> Figure:
    figure, ax = style.on_axes(ax, 6, 9.5)
    marks = "osD^vPXph*"
    for position, (name, field) in enumerate(fields.items()):
        eccentricity, diameter = field.eccentricity, field.diameter
        shade = colormaps[style.COLORMAP](0.92 * position / max(len(fields) - 1, 1))
        whole = eccentricity + diameter / 2 <= edge
        text = f"{name}: all are cut"
        if len(np.unique(eccentricity[whole].round(6))) > 1:
            slope, start = np.polyfit(eccentricity[whole], diameter[whole], 1)
            ends = np.array([eccentricity[whole].min(), eccentricity[whole].max()])
            ax.plot(ends, start + slope * ends, color=shade, linewidth=1.5, zorder=0)
            text = f"{name}: {start:.2f}° {'+' if slope >= 0 else '−'} {abs(slope):.2f} · ecc."
        look: dict[str, Any] = {"marker": marks[position % len(marks)], "edgecolors": shade}
        look["s"] = 22
        ax.scatter(eccentricity[~whole], diameter[~whole], facecolors="none", alpha=0.6, **look)
        ax.scatter(eccentricity[whole], diameter[whole], facecolors=[shade], **look)
        look["s"] = 36
        ax.scatter([], [], facecolors=[shade], label=text, **look)
    ax.set(xlabel="eccentricity of the field's centre (degrees)", ylabel=label)
    ax.set(xlim=(0, None), ylim=(0, None))
    ax.set_title(title, **style.TITLE)
    heading = "level: fitted line\n(hollow: cut by the edge\nof the field of view)"
    ax.legend(title=heading, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _above_retina(pyramid: GraphPyramid, level: int | str) -> int:
    index = pyramid.level_index(level)
    if index == 0:
        raise ValueError(
            f"level must lie above the retina, one of {', '.join(pyramid.names[1:])}, got {level!r}"
        )
    return index


def _levels(pyramid: GraphPyramid, levels: Sequence[int | str] | None) -> list[int]:
    if levels is not None:
        if isinstance(levels, np.ndarray):
            levels = levels.tolist()
        if isinstance(levels, (str, Mapping)) or not isinstance(levels, Iterable):
            raise TypeError(f"levels must be a list of levels or None, got {shown(levels)}")
        levels = list(levels)
        if not levels:
            raise ValueError("levels must name at least one level, got []")
        return [_above_retina(pyramid, level) for level in levels]
    return [i for i in range(1, len(pyramid)) if len(pyramid.levels[i]) > 1]


def _spread_out(count: int, most: int) -> np.ndarray:
    """At most ``most`` of the indices below ``count``, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _seen(fields: Ellipses) -> Ellipses:
    """The ellipses of units that see something."""
    seen = np.isfinite(fields.center).all(axis=1)
    return Ellipses(*(each[seen] for each in fields))


def _moments(array: SensorArray) -> Tensor:
    """1, x, y, x², xy, y² of every node, degrees, ``[N, 6]``."""
    x, y = array.degrees.unbind(-1)
    return torch.stack((torch.ones_like(x), x, y, x * x, x * y, y * y), dim=-1)


def _ellipses(moments: Tensor) -> Ellipses:
    weight, *rest = moments.unbind(-1)
    x, y, xx, xy, yy = (each / weight for each in rest)
    covariance = torch.stack((xx - x * x, xy - x * y, xy - x * y, yy - y * y), dim=-1)
    blind = weight == 0
    covariance[blind] = 0  # NaN, which has no axes
    spread, direction = torch.linalg.eigh(covariance.unflatten(-1, (2, 2)))
    # An even disc of diameter d has the variance (d / 4)² along each axis.
    axes = 4 * spread.clamp_min(0).sqrt().flip(-1)
    axes[blind] = torch.nan
    longer = direction[..., 1]
    angle = torch.atan2(longer[:, 1], longer[:, 0])
    return Ellipses(torch.stack((x, y), dim=-1).numpy(), axes.numpy(), angle.numpy())
