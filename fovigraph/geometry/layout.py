"""Sampling layouts: where in the visual field an array of a given resolution puts its nodes.

Layouts work in degrees and radians: every function here speaks of eccentricity and polar angle.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from fovigraph._checks import (
    finite_float,
    instance,
    list_of,
    new_class,
    one_of,
    positive_float,
    positive_int,
    shown,
)
from fovigraph._deprecated import warn_renamed
from fovigraph.geometry.magnification import check_cmf_a
from fovigraph.geometry.manifold import SensorManifold

L = TypeVar("L", bound="type[Layout]")

PADDING_REACH = 0.5
"""How far padding reaches beyond its first ring, in radii of the field of view."""

FOV = (1e-3, 360.0)
"""The smallest and the largest field of view, degrees.

An eccentricity is an angle from the line of gaze, and none is more than 180 degrees. A thousandth
of a degree is less than the distance between two cones of the fovea.
"""

MAX_SIDE = 4096
"""The largest side that an array is matched to; the coordinates of its nodes take 1 GB."""

MAX_NODES = MAX_SIDE**2
"""The most nodes that an array may have."""

MAX_VAL = (1e-3, 1e3)
"""The smallest and the largest scale of the nodes, in radii of the field of view."""

EXTENTS = ("circular", "square", "wang")
"""The extents of a field of view; a layout has some of them (:attr:`Layout.extents`)."""

NORMS = (2.0, math.inf)
"""The norms of a warp; a layout has some of them (:attr:`Layout.norms`)."""

EDGE = 16 * torch.finfo(torch.float32).eps
"""How far a valid node may lie beyond the edge, in radii: rounding, in single precision too."""

_MAX_RESOLUTION = 2 * MAX_SIDE
"""Arrays of a higher resolution have more than :data:`MAX_NODES` nodes, whatever their layout."""


def check_sizes(resolution: Any, fov: Any, cmf_a: Any) -> tuple[int, float, float]:
    """Return the three as an int and floats, or say what is allowed; see :class:`Layout`."""
    return (
        positive_int("resolution", resolution, _MAX_RESOLUTION),
        positive_float("fov", fov, *FOV),
        check_cmf_a(cmf_a),
    )


def check_stride(name: str, value: Any) -> float:
    """Return how many times coarser an array becomes, or say what ``name`` must be."""
    stride = finite_float(name, value)
    if stride < 1:
        raise ValueError(f"{name} must be at least 1, got {shown(value)}")
    return int(stride) if stride.is_integer() else stride


def check_strides(name: str, values: Any) -> list[float]:
    """Return strides as a list, or say what each must be (:func:`check_stride`)."""
    return list_of(name, values, "numbers", check_stride)


def check_norm(value: Any) -> float:
    """Return the norm of a warp as a float, or say which there are."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value not in NORMS:
        raise ValueError(f"norm must be 2 or infinity (math.inf), got {shown(value)}")
    return float(value)


class Layout(ABC):
    """Places the nodes of an array, the padding around them, and both on the cortex.

    What a layout defines is :meth:`coordinates` and :meth:`padding`, the :meth:`spacing` that it
    aims at and, unless it lies on the sensor manifold, where it lies on the cortex
    (:meth:`cortical`). It is made known by :func:`register_layout`.

    Args:
        resolution: Number of rings, or the side of the lattice.
        fov: Diameter of the field of view, degrees.
        cmf_a: The constant *a* of the cortical magnification, degrees.
        extent: The shape of the field, one of :attr:`extents`.
        norm: The norm whose shells are equally eccentric, one of :attr:`norms`.
        max_val: Where the outermost nodes lie, in radii of the field of view.

    Attributes:
        extents: The extents that there are of this layout.
        norms: The norms that there are of it.
        period: Of the last cortical coordinate, if it runs in a circle.
        relative: Whether cortical coordinates are relative to the field, not in millimetres.
        fitted: Whether the surface they lie on depends on the size of the field.
        has_cortex: Whether there are any.
        sheet: Whether it is drawn as one sheet, rather than as two halves.
        radius: Radius of the field of view, degrees.

    Raises:
        ValueError, TypeError: If an argument is not of the kind that
            :class:`~fovigraph.SensorArray` says, but for the number of nodes.
    """

    extents: tuple[str, ...] = ("circular",)
    norms: tuple[float, ...] = (2.0,)
    period: float | None = None
    relative: bool = False
    fitted: bool = False
    has_cortex: bool = True
    sheet: bool = False

    def __init__(
        self,
        resolution: int,
        fov: float,
        cmf_a: float,
        extent: str = "circular",
        norm: float = 2.0,
        max_val: float = 1.0,
    ):
        self.resolution, fov, self.cmf_a = check_sizes(resolution, fov, cmf_a)
        self.radius = fov / 2
        self.extent, self.norm = one_of("extent", extent, EXTENTS), check_norm(norm)
        self.max_val = positive_float("max_val", max_val, *MAX_VAL)
        kind = type(self).__name__
        if self.extent not in self.extents:
            raise ValueError(
                f"extent must be {' or '.join(map(repr, self.extents))} for a layout of the kind "
                f"{kind}, got {extent!r}"
            )
        if self.norm not in self.norms:
            raise ValueError(f"norm must be 2 for a layout of the kind {kind}, got {norm}")
        if self.extent == "wang" and self.norm != 2:
            raise ValueError(f"norm must be 2 for extent='wang', got {norm}")

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.coordinates())

    @abstractmethod
    def coordinates(self) -> Float64[Tensor, "N 2"]:
        """Eccentricity (degrees) and polar angle (radians) of the nodes, ``[N, 2]``."""

    @abstractmethod
    def padding(self) -> Float64[Tensor, "P 2"]:
        """The same of the padding nodes beyond the edge, ``[P, 2]``.

        A negative eccentricity lies on the other side of the point of gaze.
        """

    @abstractmethod
    def spacing(self, eccentricity: Float64[Tensor, "*N"]) -> Float64[Tensor, "*N"]:
        """The distance between neighbours that is aimed at there, both in degrees."""

    def cortical(
        self, polar: Float64[Tensor, "N 2"], manifold: SensorManifold
    ) -> Float64[Tensor, "N D"]:
        """Cortical coordinates (``[N, 3]``, millimetres) of visual points of this layout."""
        return manifold._to_cortical(polar)

    def valid(self) -> Bool[Tensor, " N"] | None:
        """Which nodes take part, ``[N]``; ``None``: all do."""
        return None

    def grid(self) -> Int64[Tensor, "H W"] | None:
        """Return which node is each pixel of an image; ``None``: the layout is no image."""
        return None

    @property
    def shape(self) -> str:
        """The extent of the field that the nodes fill, as it is drawn."""
        return self.extent

    def _inside(self, polar: Float64[Tensor, "N 2"]) -> Bool[Tensor, " N"]:
        """Which points lie within the extent of the field, ``[N]``."""
        if self.extent == "wang":
            return torch.ones(len(polar), dtype=torch.bool)
        if self.extent == "circular":
            distance = polar[:, 0] / self.radius
        else:
            distance = to_plane(polar, self.radius).abs().amax(dim=1)
        return distance <= self.max_val + EDGE


LAYOUTS: dict[str, type[Layout]] = {}
"""The registered layouts, by name."""

RENAMED = {"logpolar": "logpolar_cylinder", "uniform": "uniform_disc"}
"""Names that fovigraph's own controls had while there was one of each kind."""


def register_layout(name: str) -> Callable[[L], L]:
    """Return a decorator that makes a class the layout of a name.

    Args:
        name: The value of ``SensorArray``'s argument ``layout`` and of ``retina.layout``.

    Raises:
        TypeError: If ``name`` is not a string, or what is decorated is not a layout.
        ValueError: If another class has the name.

    Example:
        >>> import torch
        >>> from fovigraph import SensorArray
        >>> from fovigraph.geometry import RingLayout, register_layout
        >>> @register_layout("even_rings")
        ... class EvenRings(RingLayout):
        ...     def _radii(self, count):
        ...         step = self.radius / max(self.resolution - 1, 1)
        ...         return step * torch.arange(count, dtype=torch.float64)
        ...     def spacing(self, eccentricity):
        ...         return torch.full_like(eccentricity, self.radius / (self.resolution - 1))
        >>> SensorArray.matched(16, layout="even_rings").resolution
        9
    """
    instance("name", name, str, allowed="a string")

    def decorate(layout: L) -> L:
        new_class("layout", layout, Layout, name, LAYOUTS.get(name) or RENAMED.get(name))
        LAYOUTS[name] = layout
        return layout

    return decorate


def layout_name(name: Any) -> str:
    """Return the name of a layout, or say which there are; old names warn."""
    if isinstance(name, str) and name in RENAMED:
        warn_renamed(f"the layout {name!r}", repr(RENAMED[name]), stacklevel=4)
        return RENAMED[name]
    return one_of("layout", name, LAYOUTS)


def to_plane(polar: Float64[Tensor, "*N 2"], radius: float) -> Float64[Tensor, "*N 2"]:
    """Return x and y, in units of ``radius`` degrees, of polar coordinates."""
    distance, angle = polar[..., 0] / radius, polar[..., 1]
    return torch.stack((distance * angle.cos(), distance * angle.sin()), dim=-1)


def to_polar(plane: Float64[Tensor, "*N 2"], radius: float) -> Float64[Tensor, "*N 2"]:
    """Invert :func:`to_plane`: angles from 0 to 2π."""
    angle = torch.atan2(plane[..., 1], plane[..., 0]).remainder(2 * math.pi)
    return torch.stack((plane.norm(dim=-1) * radius, angle), dim=-1)


def last_radii(polar: Float64[Tensor, "N 2"]) -> Float64[Tensor, " R"]:
    """Return the last two, or the only one, of the distinct eccentricities of nodes, degrees."""
    radii = polar[:, 0].sort().values
    nearer = radii[radii < radii[-1] * (1 - 1e-6)]
    return torch.stack((nearer[-1], radii[-1])) if len(nearer) else radii[-1:]


def padding_rings(
    last: Float64[Tensor, " R"], radius: float, rings: int
) -> tuple[Float64[Tensor, " P"], float]:
    """Return the radii of padding rings (degrees) and their spacing as a fraction of the field.

    Args:
        last: The last two radii of nodes, degrees, or the only one.
        radius: That of the field of view, degrees.
        rings: How many rings of nodes there are.
    """
    outermost, *below = (last / radius).flip(0).tolist()
    if outermost == 0:
        return torch.zeros(0, dtype=torch.float64), 1.0
    gap = outermost - below[0] if below else outermost / max(rings - 1, 1)
    steps = torch.arange(1, 1 + count_below(PADDING_REACH, gap), dtype=torch.float64)
    return (outermost + gap * steps) * radius, gap


def rings_of_padding(
    last: Float64[Tensor, " R"], radius: float, rings: int
) -> Float64[Tensor, "P 2"]:
    """Return padding nodes: rings, with nodes as far apart in radians as the rings in radii."""
    radii, gap = padding_rings(last, radius, rings)
    angles = gap * torch.arange(count_below(2 * math.pi, gap), dtype=torch.float64)
    return torch.cartesian_prod(radii, angles).reshape(-1, 2)


def last_that(fits: Callable[[int], bool]) -> int:
    """Return the last whole number that fits, of numbers from 1 that fit up to there; else 0."""
    low, high = 0, 1
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def count_below(limit: float, step: float) -> int:
    """How many of 0, step, 2·step, … lie below ``limit``."""
    return max(1, math.ceil(limit / step * (1 - 1e-12)))
