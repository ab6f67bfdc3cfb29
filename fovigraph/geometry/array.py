"""The sensor array: N sample points of the visual field, and where they lie on the cortex."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from fovigraph._checks import flag, one_of, positive_float, positive_int
from fovigraph._pictures import array_html
from fovigraph.geometry.fixed import isolated
from fovigraph.geometry.layout import LAYOUTS, MAX_NODES, MAX_SIDE, Layout, check_sizes
from fovigraph.geometry.manifold import sensor_manifold


class SensorArray:
    """N sample points of a visual field, dense at the point of gaze, sparse in the periphery.

    Immutable. Coordinates are float64 on the CPU, computed when first asked for, and the same on
    every machine, in whatever context of torch's. Nodes are ordered ring by ring, then by polar
    angle; there are at most 4096² of them.

    Args:
        resolution: Number of rings (``"isotropic"``, ``"logpolar"``) or the lattice's side
            (``"uniform"``).
        fov: Diameter of the field of view, degrees, from 0.001 to 360.
        cmf_a: The constant *a* of the cortical magnification 1 / (r + a), degrees, from 1e-6 to
            1e6; the smaller, the more foveated.
        layout: ``"isotropic"``, ``"logpolar"`` or ``"uniform"``.
        field_geometry: The sensor manifold: ``"planar"``, or ``"legacy"``, the paper's.
        scale: Factor of the eccentricities of nodes and padding, from 0.001 to 1: below 1 the array
            ends before the edge of the field of view. It has as many nodes.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above, or the resolution gives
            more than 4096² nodes.

    Example:
        >>> from fovigraph import SensorArray
        >>> retina = SensorArray.matched(64, fov=16.0, cmf_a=0.5)
        >>> retina
        SensorArray(4085 nodes, side=64, resolution=53, fov=16, cmf_a=0.5, layout='isotropic')
        >>> len(retina.strided(2))
        964
    """

    def __init__(
        self,
        resolution: int,
        *,
        fov: float = 16.0,
        cmf_a: float = 0.5,
        layout: str = "isotropic",
        field_geometry: str = "planar",
        scale: float = 1.0,
    ):
        self.resolution, self.fov, self.cmf_a = check_sizes(resolution, fov, cmf_a)
        self.layout = one_of("layout", layout, LAYOUTS)
        self.field_geometry = field_geometry
        self.manifold = sensor_manifold(field_geometry, self.cmf_a)
        self.scale = positive_float("scale", scale, 1e-3, 1.0)
        self.side: int | None = None
        # Fewer rings have at most π · resolution² + resolution nodes, which is no more.
        if self.resolution > MAX_SIDE // 2 and len(self) > MAX_NODES:
            raise ValueError(
                f"resolution must give at most {MAX_NODES:,} nodes, got {resolution}, which "
                f"gives {len(self):,}"
            )

    @classmethod
    def matched(
        cls,
        side: int,
        *,
        fov: float = 16.0,
        cmf_a: float = 0.5,
        layout: str = "isotropic",
        field_geometry: str = "planar",
        scale: float = 1.0,
        at_least: bool = False,
    ) -> SensorArray:
        """Return the largest array with no more nodes than a square image of ``side`` pixels.

        Args:
            side: Side of the image to match, pixels, at most 4096. The other arguments: see
                :class:`SensorArray`.
            at_least: Instead, the smallest array with no fewer nodes; it has no :attr:`side`.

        Raises:
            ValueError, TypeError: If an argument is not of the kind said above.
        """
        side = positive_int("side", side, MAX_SIDE)
        one = cls(
            1, fov=fov, cmf_a=cmf_a, layout=layout, field_geometry=field_geometry, scale=scale
        )
        array = one.with_resolution(_largest(LAYOUTS[layout], one.fov, one.cmf_a, side**2))
        if flag("at_least", at_least):
            return array if len(array) >= side**2 else one.with_resolution(array.resolution + 1)
        array.side = side
        return array

    def strided(self, stride: int) -> SensorArray:
        """Return the array of the same field and magnification that is ``stride`` times coarser.

        An array matched to side *s* gives the one matched to ``s // stride``; any other gives the
        one with ``resolution // stride``.

        Raises:
            ValueError, TypeError: If ``stride`` is no whole number or leaves no nodes.
        """
        stride = positive_int("stride", stride)
        matched = self.side is not None
        size = self.side if self.side is not None else self.resolution
        if size < stride:
            raise ValueError(
                f"stride must leave at least one node: it may be at most {size} for an array "
                f"{'matched to side' if matched else 'of resolution'} {size}, got {stride}"
            )
        if stride == 1:
            return self
        return self.with_side(size // stride) if matched else self.with_resolution(size // stride)

    def with_resolution(self, resolution: int) -> SensorArray:
        """Return the array of another resolution over the same field and magnification.

        Raises:
            ValueError, TypeError: As for the class.
        """
        return SensorArray(
            resolution,
            fov=self.fov,
            cmf_a=self.cmf_a,
            layout=self.layout,
            field_geometry=self.field_geometry,
            scale=self.scale,
        )

    def with_side(self, side: int) -> SensorArray:
        """Return the array matched to another side over the same field and magnification.

        Raises:
            ValueError, TypeError: As :meth:`matched`.
        """
        return SensorArray.matched(
            side,
            fov=self.fov,
            cmf_a=self.cmf_a,
            layout=self.layout,
            field_geometry=self.field_geometry,
            scale=self.scale,
        )

    def inset(self) -> SensorArray:
        """Return the array scaled so that it ends between its own two outermost eccentricities.

        Patches around its nodes then end where the field of view does (FOVI's patch embeddings).
        An array whose nodes are all at one eccentricity is returned as it is.
        """
        rings = self.eccentricity.div(self.fov / 2).mul(1e9).round().unique() / 1e9
        if len(rings) < 2:
            return self
        array = SensorArray(
            self.resolution,
            fov=self.fov,
            cmf_a=self.cmf_a,
            layout=self.layout,
            field_geometry=self.field_geometry,
            scale=self.scale * float(rings[-2:].mean()),
        )
        array.side = self.side
        return array

    @property
    def _layout(self) -> Layout:
        return LAYOUTS[self.layout](self.resolution, self.fov, self.cmf_a)

    @cached_property
    @isolated
    def polar(self) -> Tensor:
        """Eccentricity (degrees) and polar angle (radians, from +x towards +y), ``[N, 2]``."""
        return self._scaled(self._layout.nodes())

    @cached_property
    @isolated
    def cartesian(self) -> Tensor:
        """x (right) and y (up) in radii of the field of view, ``[N, 2]``: the edge is at 1."""
        return self._to_cartesian(self.polar)

    @cached_property
    @isolated
    def cortical(self) -> Tensor:
        """Cortical coordinates in millimetres, ``[N, 3]``."""
        return self._layout.to_cortical(self.polar, self.manifold)

    @cached_property
    @isolated
    def padding_polar(self) -> Tensor:
        """As :attr:`polar`, of the padding points beyond the edge, ``[P, 2]``."""
        return self._scaled(self._layout.padding())

    @cached_property
    @isolated
    def padding_cartesian(self) -> Tensor:
        """As :attr:`cartesian`, of the padding points, ``[P, 2]``."""
        return self._to_cartesian(self.padding_polar)

    @cached_property
    @isolated
    def padding_cortical(self) -> Tensor:
        """As :attr:`cortical`, of the padding points, ``[P, 3]``."""
        return self._layout.to_cortical(self.padding_polar, self.manifold)

    @property
    def degrees(self) -> Tensor:
        """Nodes in degrees of the visual field, x to the right and y up, ``[N, 2]``."""
        return self.cartesian * (self.fov / 2)

    @property
    def eccentricity(self) -> Tensor:
        """Distance of every node from the point of gaze, degrees, ``[N]``."""
        return self.polar[:, 0]

    @property
    def polar_angle(self) -> Tensor:
        """Polar angle of every node, radians, ``[N]``."""
        return self.polar[:, 1]

    def _scaled(self, polar: Tensor) -> Tensor:
        return polar if self.scale == 1 else polar * torch.tensor([self.scale, 1.0]).double()

    def _to_cartesian(self, polar: Tensor) -> Tensor:
        radius, angle = polar[:, 0] / (self.fov / 2), polar[:, 1]
        return torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1)

    @cached_property
    @isolated
    def _length(self) -> int:
        return len(self._layout)

    def __len__(self) -> int:
        return self._length

    def _key(self) -> tuple[object, ...]:
        # The side, too: arrays that are equal stride alike.
        sizes = (self.resolution, self.fov, self.cmf_a, self.scale, self.side)
        return (*sizes, self.layout, self.field_geometry)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SensorArray) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _repr_html_(self) -> str:
        return array_html(self)

    def __repr__(self) -> str:
        side = "" if self.side is None else f"side={self.side}, "
        geometry = "" if self.field_geometry == "planar" else f", {self.field_geometry!r}"
        scale = "" if self.scale == 1 else f", scale={self.scale:g}"
        return (
            f"SensorArray({len(self)} nodes, {side}resolution={self.resolution}, fov={self.fov:g}, "
            f"cmf_a={self.cmf_a:g}, layout={self.layout!r}{geometry}{scale})"
        )


@isolated
def _largest(layout: type[Layout], fov: float, cmf_a: float, nodes: int) -> int:
    """Return the largest resolution of no more than so many nodes."""

    def fits(resolution: int) -> bool:
        return len(layout(resolution, fov, cmf_a)) <= nodes

    low, high = 1, 2
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
