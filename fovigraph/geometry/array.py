"""The sensor array: N sample points of the visual field, and where they lie on the cortex."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from fovigraph._checks import flag, instance, positive_int
from fovigraph._pictures import array_html
from fovigraph.geometry.fixed import isolated
from fovigraph.geometry.layout import (
    LAYOUTS,
    MAX_NODES,
    MAX_SIDE,
    Layout,
    check_norm,
    check_sizes,
    check_stride,
    last_radii,
    last_that,
    layout_name,
    to_plane,
)
from fovigraph.geometry.manifold import sensor_manifold


class SensorArray:
    """N sample points of a visual field, dense at the point of gaze, sparse in the periphery.

    Immutable. Coordinates are float64 on the CPU, computed when first asked for, and the same on
    every machine, in whatever context of torch's. Nodes of rings are ordered ring by ring, then by
    polar angle, those of lattices column by column; there are at most 4096² of them.

    Layouts: ``"isotropic"``, rings whose nodes are as far apart as they are; ``"isotropic_fixn"``,
    the same with ``resolution``² nodes exactly; ``"logpolar_image"``, as many angles as rings,
    spoke by spoke; ``"warped_cartesian"``, a lattice warped to be dense at the point of gaze;
    ``"uniform_square"``, a lattice of pixels, without a cortex; and two controls,
    ``"logpolar_cylinder"`` and ``"uniform_disc"``, which lie on sheets in space. Others can be
    added (:func:`fovigraph.geometry.register_layout`).

    Args:
        resolution: Number of rings, or the side of a lattice or of ``"isotropic_fixn"``.
        fov: Diameter of the field of view, degrees, from 0.001 to 360.
        cmf_a: The constant *a* of the cortical magnification 1 / (r + a), degrees, from 1e-6 to
            1e6; the smaller, the more foveated.
        layout: One of the names above.
        field_geometry: The sensor manifold: ``"planar"``, or ``"legacy"``, the paper's.
        extent: The shape of the field: ``"circular"``, or the ``"square"`` around that circle; for
            ``"warped_cartesian"`` also ``"wang"``, the whole lattice.
        norm: Of ``"warped_cartesian"``: 2, nodes of equal eccentricity lie on circles, or infinity,
            on squares.
        max_val: Where the outermost nodes of a circular field lie, in radii of the field;
            ``"auto"``: midway between the last two rings that it would have otherwise.

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
        extent: str = "circular",
        norm: float = 2.0,
        max_val: float | str = 1.0,
    ):
        self.resolution, self.fov, self.cmf_a = check_sizes(resolution, fov, cmf_a)
        self.layout = layout_name(layout)
        self.field_geometry = field_geometry
        self.manifold = sensor_manifold(field_geometry, self.cmf_a)
        self.extent, self.norm, self.max_val = extent, check_norm(norm), max_val
        self.side: int | None = None
        self.at_least = False
        if isinstance(max_val, str) and max_val != "auto":
            raise TypeError(f"max_val must be a number or 'auto', got {max_val!r}")
        if max_val != "auto":
            self.max_val = self._layout.max_val  # which says what is wrong with the three
        else:
            self._scaled(1.0)
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
        extent: str = "circular",
        norm: float = 2.0,
        max_val: float | str = 1.0,
        at_least: bool = False,
    ) -> SensorArray:
        """Return the largest array with no more nodes than a square image of ``side`` pixels.

        Args:
            side: Side of the image to match, pixels, at most 4096. The other arguments: see
                :class:`SensorArray`.
            at_least: Whether to return the smallest array with no fewer nodes instead.

        Raises:
            ValueError, TypeError: If an argument is not of the kind said above.
        """
        side = positive_int("side", side, MAX_SIDE)
        one = cls(
            2,
            fov=fov,
            cmf_a=cmf_a,
            layout=layout,
            field_geometry=field_geometry,
            extent=extent,
            norm=norm,
            max_val=max_val,
        )
        if not flag("at_least", at_least):
            array = one.with_resolution(one._largest(side**2))
        else:  # the next one after the largest with fewer
            array = one.with_resolution(one._largest(side**2 - 1) + 1 if side > 1 else 1)
        array.side, array.at_least = side, at_least
        return array

    def strided(self, stride: float) -> SensorArray:
        """Return the array of the same field and magnification that is ``stride`` times coarser.

        An array matched to side *s* gives the one matched to ``floor(s / stride)``, in the same
        way; any other gives the one with ``floor(resolution / stride)``.

        Raises:
            ValueError, TypeError: If ``stride`` is no number of at least 1, or leaves no nodes.
        """
        stride = check_stride("stride", stride)
        matched = self.side is not None
        size = self.side if self.side is not None else self.resolution
        if size < stride:
            raise ValueError(
                f"stride must leave at least one node: it may be at most {size} for an array "
                f"{'matched to side' if matched else 'of resolution'} {size}, got {stride:g}"
            )
        if stride == 1:
            return self
        size = int(size / stride)
        return self.with_side(size) if matched else self.with_resolution(size)

    def with_resolution(self, resolution: int) -> SensorArray:
        """Return the array of another resolution over the same field and magnification.

        Raises:
            ValueError, TypeError: As for the class.
        """
        return SensorArray(resolution, **self._options())

    def with_cmf_a(self, cmf_a: float) -> SensorArray:
        """Return the array of another magnification, of the same resolution over the same field.

        Args:
            cmf_a: The constant *a* of the cortical magnification, degrees.

        Raises:
            ValueError, TypeError: As for the class.
        """
        return SensorArray(self.resolution, **{**self._options(), "cmf_a": cmf_a})

    def with_side(self, side: int, *, at_least: bool | None = None) -> SensorArray:
        """Return the array matched to another side over the same field and magnification.

        Args:
            side: Side of the image to match, pixels.
            at_least: Whether it has no fewer nodes than that image, rather than no more; ``None``:
                as this array was matched.

        Raises:
            ValueError, TypeError: As :meth:`matched`.
        """
        at_least = self.at_least if at_least is None else at_least
        return SensorArray.matched(side, **self._options(), at_least=at_least)

    def inset(self) -> SensorArray:
        """Return the array scaled so that it ends between its own two outermost eccentricities.

        Patches around its nodes then end where the field of view does (FOVI's patch embeddings).
        An array whose nodes are all at one eccentricity is returned as it is.
        """
        if len(last_radii(self.polar)) < 2:
            return self
        array = SensorArray(self.resolution, **{**self._options(), "max_val": "auto"})
        array.side, array.at_least = self.side, self.at_least
        return array

    def _options(self) -> dict[str, Any]:
        return {
            "fov": self.fov,
            "cmf_a": self.cmf_a,
            "layout": self.layout,
            "field_geometry": self.field_geometry,
            "extent": self.extent,
            "norm": self.norm,
            "max_val": self.max_val,
        }

    def _scaled(self, max_val: float, resolution: int | None = None) -> Layout:
        """The layout, of another scale and resolution."""
        return LAYOUTS[self.layout](
            self.resolution if resolution is None else resolution,
            self.fov,
            self.cmf_a,
            self.extent,
            self.norm,
            max_val,
        )

    @cached_property
    @isolated
    def _layout(self) -> Layout:
        if self.max_val != "auto":
            return self._scaled(self.max_val)  # type: ignore[arg-type]
        last = last_radii(self._scaled(1.0).coordinates()) / (self.fov / 2)
        if not last.any():  # one node at the centre, which no scale moves
            return self._scaled(1.0)
        if len(last) < 2:
            raise ValueError(
                "max_val must be a number for an array whose nodes are all equally eccentric, got "
                f"'auto' for resolution {self.resolution}"
            )
        return self._scaled(float(last.mean()))

    @isolated
    def _largest(self, nodes: int) -> int:
        """Return the largest resolution of no more than so many nodes."""
        return last_that(lambda resolution: len(self._scaled(1.0, resolution)) <= nodes)

    @cached_property
    @isolated
    def polar(self) -> Tensor:
        """Eccentricity (degrees) and polar angle (radians, from +x towards +y), ``[N, 2]``."""
        return self._layout.coordinates()

    @cached_property
    @isolated
    def cartesian(self) -> Tensor:
        """x (right) and y (up) in radii of the field of view, ``[N, 2]``: the edge is at 1."""
        return to_plane(self.polar, self.fov / 2)

    @cached_property
    @isolated
    def cortical(self) -> Tensor:
        """Cortical coordinates, ``[N, 3]``, millimetres, or those of a flat layout, ``[N, 2]``.

        Raises:
            ValueError: If the layout has none (``"uniform_square"``).
        """
        return self._layout.cortical(self.polar, self.manifold)

    @cached_property
    @isolated
    def padding_polar(self) -> Tensor:
        """As :attr:`polar`, of the padding points beyond the edge, ``[P, 2]``."""
        return self._layout.padding()

    @cached_property
    @isolated
    def padding_cartesian(self) -> Tensor:
        """As :attr:`cartesian`, of the padding points, ``[P, 2]``."""
        return to_plane(self.padding_polar, self.fov / 2)

    @cached_property
    @isolated
    def padding_cortical(self) -> Tensor:
        """As :attr:`cortical`, of the padding points, ``[P, 3]`` or ``[P, 2]``."""
        return self._layout.cortical(self.padding_polar, self.manifold)

    @cached_property
    @isolated
    def mask(self) -> Tensor | None:
        """Which nodes lie within the extent of the field, ``[N]``; ``None``: all.

        The others hold their place in the lattice, but take part in nothing.

        Raises:
            ValueError: If no node does.
        """
        valid = self._layout.valid()
        if valid is not None and not valid.any():
            raise ValueError(f"layout must leave a node within the field's extent, got {self!r}")
        return None if valid is None or bool(valid.all()) else valid

    @cached_property
    @isolated
    def valid_nodes(self) -> Tensor:
        """The nodes that are not masked, ascending, ``[M]``."""
        return torch.arange(len(self)) if self.mask is None else self.mask.nonzero().flatten()

    @cached_property
    @isolated
    def grid(self) -> Tensor:
        """Which node is each pixel of the image that the array is, ``[H, W]``.

        Warped and uniform lattices are upright images; in a log-polar image, angles are rows and
        radii columns.

        Raises:
            ValueError: If the layout is no image.
        """
        grid = self._layout.grid()
        if grid is None:
            raise ValueError(
                "array must have a layout that is an image (logpolar_image, uniform_square, "
                f"warped_cartesian), got {self}"
            )
        return grid

    def as_grid(self, samples: Tensor) -> Tensor:
        """Return features of the nodes as an image, as dense networks take it.

        Args:
            samples: ``[*, N, C]``, such as a retina's.

        Returns:
            ``[*, C, H, W]``; masked nodes as they are in ``samples``.

        Raises:
            ValueError, TypeError: If the layout is no image, or ``samples`` are not of its nodes.

        Example:
            >>> import torch
            >>> from fovigraph import Retina, SensorArray
            >>> retina = Retina(SensorArray(32, layout="warped_cartesian"))
            >>> samples = retina(torch.rand(2, 3, 96, 128), [[0.5, 0.5]])
            >>> retina.array.as_grid(samples).shape
            torch.Size([2, 1, 3, 32, 32])
        """
        grid = self.grid
        instance("samples", samples, Tensor, allowed="a torch.Tensor [..., N, C]")
        if samples.ndim < 2 or samples.shape[-2] != len(self):
            raise ValueError(
                f"samples must be [..., {len(self)} nodes, channels], got shape "
                f"{list(samples.shape)}"
            )
        seen = samples.index_select(-2, grid.flatten().to(samples.device))
        return seen.unflatten(-2, grid.shape).movedim(-1, -3)

    @property
    def has_cortex(self) -> bool:
        """Whether the layout has cortical coordinates."""
        return self._layout.has_cortex

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

    @cached_property
    @isolated
    def _length(self) -> int:
        return len(self._layout)

    def __len__(self) -> int:
        return self._length

    def _key(self) -> tuple[object, ...]:
        # The side, too: arrays that are equal stride alike.
        return (self.resolution, *self._options().values(), self.side, self.at_least)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SensorArray) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _repr_html_(self) -> str:
        return array_html(self)

    def __repr__(self) -> str:
        side = "" if self.side is None else f"side={self.side}, "
        others = {
            "field_geometry": "planar",
            "extent": "circular",
            "norm": 2.0,
            "max_val": 1.0,
        }
        more = "".join(
            f", {name}={getattr(self, name)!r}"
            for name, usual in others.items()
            if getattr(self, name) != usual
        ).replace("field_geometry=", "")
        return (
            f"SensorArray({len(self)} nodes, {side}resolution={self.resolution}, fov={self.fov:g}, "
            f"cmf_a={self.cmf_a:g}, layout={self.layout!r}{more})"
        )
