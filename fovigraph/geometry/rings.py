"""Layouts of rings around the point of gaze."""

from __future__ import annotations

import functools
import math

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from fovigraph.geometry.fixed import isolated
from fovigraph.geometry.layout import (
    Layout,
    last_radii,
    last_that,
    padding_rings,
    register_layout,
    rings_of_padding,
    to_plane,
    to_polar,
)
from fovigraph.geometry.magnification import CORTICAL_SCALE
from fovigraph.geometry.manifold import SensorManifold


def ring_sizes(
    radii: Float64[Tensor, " R_and_one"], around: Float64[Tensor, " R_less_one"]
) -> Int64[Tensor, " R"]:
    """Return how many nodes are as far from one another on a ring as from the next ring.

    Args:
        radii: Of the rings, from the centre, and of one beyond.
        around: Lengths of the rings but for the centre, in the unit of the radii.
    """
    spacing = (radii[2:] - radii[:-2]) / 2
    # A spacing that divides a ring exactly must not gain a node by rounding.
    nodes = torch.ceil(around / spacing * (1 - 1e-12))
    return torch.cat((torch.ones(1, dtype=torch.int64), nodes.long()))


class RingLayout(Layout):
    """Rings whose nodes are as far from one another as from the next ring.

    The rings are evenly spaced on the cortex, from the centre to the edge, or wherever a subclass
    puts them (:meth:`_radii`). A square field has rings out to its corners and is cut out of them.
    """

    def _reach(self) -> float:
        """Eccentricity of the last ring if nodes are not scaled, degrees."""
        return self.radius if self.extent == "circular" else math.sqrt(2) * self.radius

    def _log_step(self) -> float:
        """From ring to ring, in ln(r + a)."""
        return math.log1p(self._reach() / self.cmf_a) / max(self.resolution - 1, 1)

    def _radii(self, count: int) -> Float64[Tensor, " R"]:
        """The first ``count`` ring radii in degrees; the ring ``resolution - 1`` is at the edge."""
        if self.resolution == 1:
            return torch.zeros(count, dtype=torch.float64)
        steps = self._log_step() * torch.arange(count, dtype=torch.float64)
        return self.cmf_a * torch.expm1(steps) * self.max_val

    def _ring_sizes(self) -> Int64[Tensor, " R"]:
        if self.resolution == 1:
            return torch.ones(1, dtype=torch.int64)
        radii = self._radii(self.resolution + 1)
        return ring_sizes(radii, 2 * math.pi * radii[1:-1])

    def _around(self, sizes: Int64[Tensor, " R"]) -> Float64[Tensor, "N 2"]:
        """So many nodes on every ring, evenly from the angle 0."""
        ring = torch.repeat_interleave(sizes)
        within = torch.arange(len(ring)).double() - (sizes.cumsum(0) - sizes)[ring]
        return torch.stack(
            (self._radii(self.resolution)[ring], 2 * math.pi * within / sizes[ring]), dim=-1
        )

    def _cut(
        self,
    ) -> tuple[Float64[Tensor, "A 2"], Bool[Tensor, " A"], Float64[Tensor, "C 2"]]:
        """All nodes of the rings, which of them a square field has, and corners it has besides."""
        rings, m = self._around(self._ring_sizes()), self.max_val
        inside = self._inside(rings)
        if self.resolution == 1:
            return rings, inside, rings[:0]
        corners = torch.cartesian_prod(*[torch.tensor([-m, m], dtype=torch.float64)] * 2)
        plane = to_plane(rings[inside], self.radius)
        known = torch.isclose(plane[:, None], corners, rtol=1e-5, atol=1e-6).all(-1).any(0)
        return rings, inside, to_polar(corners[~known], self.radius)

    def _square(self) -> tuple[Float64[Tensor, "N 2"], Float64[Tensor, "P 2"]]:
        """The nodes of a square field, and those of its rings that lie outside."""
        rings, inside, corners = self._cut()
        return torch.cat((rings[inside], corners)), rings[~inside]

    def __len__(self) -> int:
        if self.extent == "circular":
            return int(self._ring_sizes().sum())
        return len(self._square()[0])

    def coordinates(self) -> Float64[Tensor, "N 2"]:
        if self.extent == "circular":
            return self._around(self._ring_sizes())
        return self._square()[0]

    def padding(self) -> Float64[Tensor, "P 2"]:
        if self.extent == "circular":
            last = self._radii(self.resolution)[-2:]
            return rings_of_padding(last, self.radius, self.resolution)
        nodes, outside = self._square()
        return torch.cat(
            (outside, rings_of_padding(last_radii(nodes), self.radius, self.resolution))
        )

    def spacing(self, eccentricity: Float64[Tensor, "*N"]) -> Float64[Tensor, "*N"]:
        return self._log_step() * (eccentricity + self.cmf_a * self.max_val)


@register_layout("isotropic")
class Isotropic(RingLayout):
    """Rings whose nodes are as far from one another as from the next ring."""

    extents = ("circular", "square")


@register_layout("isotropic_fixn")
class IsotropicFixed(Layout):
    """Exactly ``resolution``² nodes: the isotropic array that has as few more as possible, thinned.

    Of a circular field, rings lose a node each and spread the others again: of the rings from a
    fifth of the way out to the edge, as many as need be and evenly among them, all of them as often
    as that is not enough. Of a square field, evenly many nodes are left out; its corners stay.
    """

    extents = ("circular", "square")

    def _full(self) -> Isotropic:
        fewest = _fewest_rings(self.resolution**2, self.radius * 2, self.cmf_a, self.extent)
        return Isotropic(fewest, self.radius * 2, self.cmf_a, self.extent, self.norm, self.max_val)

    def __len__(self) -> int:
        return self.resolution**2

    def coordinates(self) -> Float64[Tensor, "N 2"]:
        full = self._full()
        if self.extent == "circular":
            return full._around(_thinned(full._ring_sizes(), self.resolution**2))
        nodes = full.coordinates()
        return nodes[self._kept(nodes)]

    def _kept(self, nodes: Float64[Tensor, "M 2"]) -> Bool[Tensor, " M"]:
        """Which of the nodes of a square field that has more than enough."""
        wanted = self.resolution**2
        if len(nodes) == wanted:
            return torch.ones(wanted, dtype=torch.bool)
        plane = to_plane(nodes, self.radius).abs()
        corner = torch.isclose(plane, torch.tensor(self.max_val).double(), rtol=1e-5, atol=1e-6)
        keep = corner.all(dim=1)
        others = (~keep).nonzero().flatten()
        chosen = torch.linspace(0, len(others) - 1, wanted - int(keep.sum()), dtype=torch.float64)
        keep[others[chosen.round().long()]] = True
        return keep

    def padding(self) -> Float64[Tensor, "P 2"]:
        full = self._full()
        if self.extent == "circular":
            return full.padding()
        outer = rings_of_padding(last_radii(self.coordinates()), self.radius, full.resolution)
        return torch.cat((full._square()[1], outer))

    def spacing(self, eccentricity: Float64[Tensor, "*N"]) -> Float64[Tensor, "*N"]:
        return self._full().spacing(eccentricity)


@functools.lru_cache(maxsize=256)
@isolated
def _fewest_rings(nodes: int, fov: float, cmf_a: float, extent: str) -> int:
    """Return the fewest isotropic rings of at least so many nodes."""
    return 1 + last_that(lambda rings: len(Isotropic(rings, fov, cmf_a, extent)) < nodes)


def _thinned(sizes: Int64[Tensor, " R"], wanted: int) -> Int64[Tensor, " R"]:
    """Take nodes from rings, one each a round, until so many are left."""
    sizes = sizes.clone()
    inner = len(sizes) // 5
    while surplus := int(sizes.sum()) - wanted:
        rings = inner + (sizes[inner:] > 1).nonzero().flatten()
        take = min(surplus, len(rings))
        # The middles of so many equal parts of the rings.
        sizes[rings[(2 * torch.arange(take) + 1) * len(rings) // (2 * take)]] -= 1
    return sizes


@register_layout("logpolar_cylinder")
class LogPolarCylinder(RingLayout):
    """As many nodes on every ring as there are rings, ring by ring: a control.

    It is laid on a cylinder as high as it is around, on which its lattice is even.
    """

    fitted = True

    def _angles(self) -> Tensor:
        return torch.arange(self.resolution, dtype=torch.float64) * (2 * math.pi) / self.resolution

    def __len__(self) -> int:
        return self.resolution**2

    def coordinates(self) -> Float64[Tensor, "N 2"]:
        return torch.cartesian_prod(self._radii(self.resolution), self._angles()).reshape(-1, 2)

    def padding(self) -> Float64[Tensor, "P 2"]:
        last = self._radii(self.resolution)[-2:]
        radii, _ = padding_rings(last, self.radius, self.resolution)
        return torch.cartesian_prod(radii, self._angles()).reshape(-1, 2)

    def cortical(
        self, polar: Float64[Tensor, "N 2"], manifold: SensorManifold
    ) -> Float64[Tensor, "N D"]:
        eccentricity, angle = polar.unbind(-1)
        height = CORTICAL_SCALE * torch.log1p(eccentricity / self.cmf_a)
        rho = CORTICAL_SCALE * math.log1p(self.radius / self.cmf_a) / (2 * math.pi)
        return torch.stack((rho * angle.cos(), rho * angle.sin(), height), dim=-1)


@register_layout("logpolar_image")
class LogPolarImage(LogPolarCylinder):
    """The log-polar image: as many angles as rings, spoke by spoke, the centre on every spoke.

    Its cortex is the image: depth from 0 at the centre to 1 at the last ring, and the angle in
    turns, which runs in a circle. Padding lies beyond both ends of the spokes.
    """

    extents = ("circular", "square")
    period = 1.0
    relative = sheet = True

    def _log_reach(self) -> float:
        return math.log1p(self._reach() * self.max_val / self.cmf_a)

    def coordinates(self) -> Float64[Tensor, "N 2"]:
        angle_radius = torch.cartesian_prod(self._angles(), self._radii(self.resolution))
        return angle_radius.reshape(-1, 2).flip(1)

    def grid(self) -> Int64[Tensor, "H W"] | None:
        """Angles are rows, radii columns."""
        return torch.arange(len(self)).view(self.resolution, self.resolution)

    def padding(self) -> Float64[Tensor, "P 2"]:
        if self.resolution == 1:
            return torch.zeros(0, 2, dtype=torch.float64)
        last = self.resolution - 1
        layers = max(1, math.ceil(last / 2))
        steps = torch.arange(1, layers + 1, dtype=torch.float64)
        depth = torch.cat((-steps.flip(0), last + steps)) / last
        radii = self.cmf_a * torch.expm1(depth * self._log_reach())
        return torch.cartesian_prod(radii, self._angles()).reshape(-1, 2)

    def cortical(
        self, polar: Float64[Tensor, "N 2"], manifold: SensorManifold
    ) -> Float64[Tensor, "N D"]:
        eccentricity, angle = polar.unbind(-1)
        depth = torch.log1p(eccentricity / self.cmf_a) / self._log_reach()
        return torch.stack((depth, angle / (2 * math.pi)), dim=-1)

    def valid(self) -> Bool[Tensor, " N"] | None:
        return None if self.extent == "circular" else self._inside(self.coordinates())
