"""Sampling layouts: where in the visual field an array of a given resolution puts its nodes.

Layouts work in degrees and radians: every function here speaks of eccentricity and polar angle.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from fovigraph._checks import positive_float, positive_int
from fovigraph.geometry.magnification import CORTICAL_SCALE, check_cmf_a
from fovigraph.geometry.manifold import SensorManifold

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

_MAX_RESOLUTION = 2 * MAX_SIDE
"""Arrays of a higher resolution have more than :data:`MAX_NODES` nodes, whatever their layout."""


def check_sizes(resolution: Any, fov: Any, cmf_a: Any) -> tuple[int, float, float]:
    """Return the three as an int and floats, or say what is allowed; see :class:`Layout`."""
    return (
        positive_int("resolution", resolution, _MAX_RESOLUTION),
        positive_float("fov", fov, *FOV),
        check_cmf_a(cmf_a),
    )


class Layout(ABC):
    """Places the nodes of an array, the ring of padding around them, and both on the cortex.

    Args:
        resolution: Number of rings (isotropic, logpolar) or the side of the lattice (uniform).
        fov: Diameter of the field of view, degrees.
        cmf_a: The constant *a* of the cortical magnification, degrees.

    Raises:
        ValueError, TypeError: If an argument is not of the kind that
            :class:`~fovigraph.SensorArray` says, but for the number of nodes.
    """

    def __init__(self, resolution: int, fov: float, cmf_a: float):
        self.resolution, fov, self.cmf_a = check_sizes(resolution, fov, cmf_a)
        self.radius = fov / 2

    @abstractmethod
    def __len__(self) -> int:
        """Number of nodes, without placing them."""

    @abstractmethod
    def nodes(self) -> Float64[Tensor, "N 2"]:
        """Eccentricity (degrees) and polar angle (radians) of the nodes, ``[N, 2]``."""

    @abstractmethod
    def padding(self) -> Float64[Tensor, "P 2"]:
        """The same of the padding nodes beyond the edge, ``[P, 2]``."""

    def to_cortical(
        self, polar: Float64[Tensor, "N 2"], manifold: SensorManifold
    ) -> Float64[Tensor, "N 3"]:
        """Cortical coordinates (millimetres, ``[N, 3]``) of visual points of this layout."""
        return manifold._to_cortical(polar)


class _RingLayout(Layout):
    """Rings at radii that are evenly spaced on the cortex, from the centre to the edge."""

    def _radii(self, count: int) -> Tensor:
        """The first ``count`` ring radii in degrees; the ring ``resolution - 1`` is at the edge."""
        if self.resolution == 1:
            return torch.zeros(count, dtype=torch.float64)
        step = math.log1p(self.radius / self.cmf_a) / (self.resolution - 1)
        return self.cmf_a * torch.expm1(step * torch.arange(count, dtype=torch.float64))

    def _padding_radii(self) -> tuple[Tensor, float]:
        """Radii of the padding rings in degrees and their spacing as a fraction of the field."""
        if self.resolution == 1:
            return torch.zeros(0, dtype=torch.float64), 1.0
        last = (self._radii(self.resolution) / self.radius)[-2:]
        gap = float(last[1] - last[0])
        rings = torch.arange(1, 1 + _count_below(PADDING_REACH, gap), dtype=torch.float64)
        return (float(last[1]) + gap * rings) * self.radius, gap


class Isotropic(_RingLayout):
    """Rings whose nodes are as far from one another as from the next ring."""

    def _ring_sizes(self) -> Tensor:
        if self.resolution == 1:
            return torch.ones(1, dtype=torch.int64)
        radii = self._radii(self.resolution + 1)
        spacing = (radii[2:] - radii[:-2]) / 2
        # A spacing that divides a ring exactly must not gain a node by rounding.
        nodes = torch.ceil(2 * math.pi * radii[1:-1] / spacing * (1 - 1e-12))
        return torch.cat((torch.ones(1, dtype=torch.int64), nodes.long()))

    def __len__(self) -> int:
        return int(self._ring_sizes().sum())

    def nodes(self) -> Float64[Tensor, "N 2"]:
        sizes = self._ring_sizes()
        ring = torch.repeat_interleave(sizes)
        within = torch.arange(len(ring)).double() - (sizes.cumsum(0) - sizes)[ring]
        return torch.stack(
            (self._radii(self.resolution)[ring], 2 * math.pi * within / sizes[ring]), dim=-1
        )

    def padding(self) -> Float64[Tensor, "P 2"]:
        radii, gap = self._padding_radii()
        angles = gap * torch.arange(_count_below(2 * math.pi, gap), dtype=torch.float64)
        return torch.cartesian_prod(radii, angles).reshape(-1, 2)


class LogPolar(_RingLayout):
    """As many nodes on every ring as there are rings: the log-polar image, a control.

    It is laid on a cylinder as high as it is around, on which its lattice is even.
    """

    def _angles(self) -> Tensor:
        return torch.arange(self.resolution, dtype=torch.float64) * (2 * math.pi) / self.resolution

    def __len__(self) -> int:
        return self.resolution**2

    def nodes(self) -> Float64[Tensor, "N 2"]:
        return torch.cartesian_prod(self._radii(self.resolution), self._angles()).reshape(-1, 2)

    def padding(self) -> Float64[Tensor, "P 2"]:
        return torch.cartesian_prod(self._padding_radii()[0], self._angles()).reshape(-1, 2)

    def to_cortical(
        self, polar: Float64[Tensor, "N 2"], manifold: SensorManifold
    ) -> Float64[Tensor, "N 3"]:
        eccentricity, angle = polar.unbind(-1)
        height = CORTICAL_SCALE * torch.log1p(eccentricity / self.cmf_a)
        rho = CORTICAL_SCALE * math.log1p(self.radius / self.cmf_a) / (2 * math.pi)
        return torch.stack((rho * angle.cos(), rho * angle.sin(), height), dim=-1)


class Uniform(Layout):
    """A square lattice of pixels, cut to the round field of view: no foveation, a control.

    It is laid on a flat sheet, one millimetre a degree.
    """

    def _lattice(self, margin: int) -> Tensor:
        """Pixel centres of the lattice, ``margin`` pixels wider on every side, in radii."""
        return torch.cartesian_prod(*[self._axis(margin)] * 2)

    def _axis(self, margin: int) -> Tensor:
        steps = torch.arange(-margin, self.resolution + margin, dtype=torch.float64)
        return (2 * steps + 1) / self.resolution - 1

    def _polar(self, xy: Tensor) -> Tensor:
        angle = torch.atan2(xy[:, 1], xy[:, 0]).remainder(2 * math.pi)
        return torch.stack((xy.norm(dim=1) * self.radius, angle), dim=-1)

    def __len__(self) -> int:
        half_chord = torch.sqrt((1 + 1e-12 - self._axis(0) ** 2).clamp_min(0)) * self.resolution / 2
        if self.resolution % 2:
            return int((2 * half_chord.floor() + 1).sum())
        return int((2 * (half_chord + 0.5).floor()).sum())

    def nodes(self) -> Float64[Tensor, "N 2"]:
        lattice = self._lattice(0)
        return self._polar(lattice[lattice.norm(dim=1) <= 1 + 1e-12])

    def padding(self) -> Float64[Tensor, "P 2"]:
        if self.resolution == 1:
            return torch.zeros(0, 2, dtype=torch.float64)
        pixel = 2 / self.resolution
        lattice = self._lattice(math.ceil((PADDING_REACH + pixel) / pixel))
        distance = lattice.norm(dim=1)
        beyond = (distance > 1 + 1e-12) & (distance < 1 + pixel + PADDING_REACH)
        return self._polar(lattice[beyond])

    def to_cortical(
        self, polar: Float64[Tensor, "N 2"], manifold: SensorManifold
    ) -> Float64[Tensor, "N 3"]:
        eccentricity, angle = polar.unbind(-1)
        flat = torch.zeros_like(eccentricity)
        return torch.stack((eccentricity * angle.cos(), eccentricity * angle.sin(), flat), dim=-1)


LAYOUTS: dict[str, type[Layout]] = {
    "isotropic": Isotropic,
    "logpolar": LogPolar,
    "uniform": Uniform,
}


def _count_below(limit: float, step: float) -> int:
    """How many of 0, step, 2·step, … lie below ``limit``."""
    return max(1, math.ceil(limit / step * (1 - 1e-12)))
