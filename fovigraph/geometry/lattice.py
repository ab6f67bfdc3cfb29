"""Layouts that are lattices: of pixels, and warped to be dense at the point of gaze."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from fovigraph._checks import one_of, positive_float
from fovigraph._tensors import finite, real_tensor
from fovigraph.geometry.layout import (
    EXTENTS,
    FOV,
    MAX_VAL,
    PADDING_REACH,
    Layout,
    check_norm,
    last_radii,
    register_layout,
    rings_of_padding,
    to_plane,
    to_polar,
)
from fovigraph.geometry.magnification import check_cmf_a
from fovigraph.geometry.manifold import SensorManifold


class Warp:
    r"""The map between a plane of even pixels and the visual plane, dense at the point of gaze.

    A native point :math:`u` lies at the visual point
    :math:`p = u\,a\,(e^{\|u\|\Lambda/\nu} - 1) / (h\|u\|)`, in radii :math:`h` of the field of
    view. Both maps reach everywhere, beyond the field too.

    Args:
        fov: Diameter of the field of view, degrees.
        cmf_a: The constant *a* of the cortical magnification, degrees.
        extent: ``"circular"`` or ``"square"``: the native unit circle is the field's edge;
            ``"wang"``: the middle of a native side is the middle of the visual square's side.
        norm: Of the shells that are equally eccentric: 2, circles, or infinity, squares.
        max_val: Half the side of the native plane.

    Attributes:
        law: :math:`\Lambda` and :math:`\nu`.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.

    Example:
        >>> import torch
        >>> from fovigraph.geometry import Warp
        >>> Warp(16.0, 0.5).to_visual(torch.tensor([0.5, 0.25]))
        tensor([0.2165, 0.1083], dtype=torch.float64)
    """

    def __init__(
        self,
        fov: float,
        cmf_a: float,
        extent: str = "circular",
        norm: float = 2.0,
        max_val: float = 1.0,
    ):
        self._radius = positive_float("fov", fov, *FOV) / 2
        self._cmf_a, self._norm = check_cmf_a(cmf_a), check_norm(norm)
        one_of("extent", extent, EXTENTS)
        m = positive_float("max_val", max_val, *MAX_VAL)
        if extent == "wang" and self._norm != 2:
            raise ValueError(f"norm must be 2 for extent='wang', got {norm}")
        ratio = self._radius / self._cmf_a
        whole = math.log1p(ratio)
        self.law = whole, 1.0
        if self._norm != 2:
            self.law = math.log1p(m * ratio), m
        elif extent == "wang":
            self.law = whole, m / (math.log1p(m * ratio) / whole)
        self._depth = self.law[0] / self.law[1]

    def to_visual(self, native: Float[Tensor, "*N 2"]) -> Float64[Tensor, "*N 2"]:
        """Return the visual points (radii of the field, ``[..., 2]``) of native ones.

        Raises:
            ValueError, TypeError: If ``native`` is no tensor of finite real numbers ``[..., 2]``.
        """
        native = self._points("native", native)
        length = self._length(native)
        a = self._cmf_a / self._radius
        # At 0, the limit.
        factor = torch.expm1(length * self._depth) / length.clamp_min(1e-300)
        return native * a * torch.where(length > 0, factor, self._depth)

    def to_native(self, visual: Float[Tensor, "*N 2"]) -> Float64[Tensor, "*N 2"]:
        """Invert :meth:`to_visual`.

        Raises:
            ValueError, TypeError: If ``visual`` is no tensor of finite real numbers ``[..., 2]``.
        """
        visual = self._points("visual", visual)
        length = self._length(visual)
        ratio = self._radius / self._cmf_a
        factor = torch.log1p(length * ratio) / length.clamp_min(1e-300)
        return visual * torch.where(length > 0, factor, ratio) / self._depth

    def _length(self, points: Tensor) -> Tensor:
        return torch.linalg.vector_norm(points, ord=self._norm, dim=-1, keepdim=True)

    @staticmethod
    def _points(name: str, points: Any) -> Tensor:
        return finite(name, real_tensor(name, points, ("...", 2))).double()


def _upright(side: int) -> Int64[Tensor, "S S"]:
    """Which cell of a lattice, x outermost, is each pixel of an upright image."""
    return torch.arange(side**2).view(side, side).flip(1).t()


class _Lattice(Layout):
    """A square lattice of ``resolution``² cells, column by column, from the left and from below."""

    sheet = True

    def _axis(self, margin: int) -> Float64[Tensor, " S"]:
        """Centres of cells, ``margin`` cells further on both sides."""
        steps = torch.arange(-margin, self.resolution + margin, dtype=torch.float64)
        return (2 * steps + 1) / self.resolution - 1

    def _cells(self, margin: int = 0) -> Float64[Tensor, "C 2"]:
        """Centres of the cells of the lattice, ``margin`` cells wider on every side."""
        return torch.cartesian_prod(*[self._axis(margin)] * 2) * self.max_val

    def __len__(self) -> int:
        return self.resolution**2

    def spacing(self, eccentricity: Float64[Tensor, "*N"]) -> Float64[Tensor, "*N"]:
        return torch.full_like(eccentricity, 2 * self.radius * self.max_val / self.resolution)


@register_layout("uniform_disc")
class UniformDisc(_Lattice):
    """A square lattice of pixels, cut to the round field of view: no foveation, a control.

    It is laid on a flat sheet, one millimetre a degree.
    """

    def __len__(self) -> int:
        half_chord = torch.sqrt((1 + 1e-12 - self._axis(0) ** 2).clamp_min(0)) * self.resolution / 2
        if self.resolution % 2:
            return int((2 * half_chord.floor() + 1).sum())
        return int((2 * (half_chord + 0.5).floor()).sum())

    def coordinates(self) -> Float64[Tensor, "N 2"]:
        cells = self._cells()
        return to_polar(cells[cells.norm(dim=1) <= (1 + 1e-12) * self.max_val], self.radius)

    def padding(self) -> Float64[Tensor, "P 2"]:
        if self.resolution == 1:
            return torch.zeros(0, 2, dtype=torch.float64)
        m, pixel = self.max_val, 2 * self.max_val / self.resolution
        lattice = self._cells(math.ceil((PADDING_REACH + pixel) / pixel))
        distance = lattice.norm(dim=1)
        beyond = (distance > (1 + 1e-12) * m) & (distance < m + pixel + PADDING_REACH)
        return to_polar(lattice[beyond], self.radius)

    def cortical(
        self, polar: Float64[Tensor, "N 2"], manifold: SensorManifold
    ) -> Float64[Tensor, "N D"]:
        eccentricity, angle = polar.unbind(-1)
        flat = torch.zeros_like(eccentricity)
        return torch.stack((eccentricity * angle.cos(), eccentricity * angle.sin(), flat), dim=-1)


@register_layout("uniform_square")
class UniformSquare(_Lattice):
    """All pixels of the square around the field of view, in a ring of padding; it has no cortex."""

    extents = ("circular", "square")
    has_cortex = False
    shape = "square"  # whatever the extent

    def coordinates(self) -> Float64[Tensor, "N 2"]:
        return to_polar(self._cells(), self.radius)

    def grid(self) -> Int64[Tensor, "H W"] | None:
        return _upright(self.resolution)

    def padding(self) -> Float64[Tensor, "P 2"]:
        return rings_of_padding(last_radii(self.coordinates()), self.radius, self.resolution)

    def cortical(
        self, polar: Float64[Tensor, "N 2"], manifold: SensorManifold
    ) -> Float64[Tensor, "N D"]:
        raise ValueError(
            "layout must be one with cortical coordinates, got 'uniform_square', which has none: "
            "metric='visual' compares places in the visual field"
        )


@register_layout("warped_cartesian")
class WarpedCartesian(_Lattice):
    """A lattice of cells that are warped to be dense at the point of gaze (:class:`Warp`).

    Its cortex is the lattice, flat and of the side 2.
    """

    extents = EXTENTS
    norms = (2.0, math.inf)
    relative = fitted = True

    def _warp(self) -> Warp:
        return Warp(2 * self.radius, self.cmf_a, self.extent, self.norm, self.max_val)

    def coordinates(self) -> Float64[Tensor, "N 2"]:
        return to_polar(self._warp().to_visual(self._cells()), self.radius)

    def grid(self) -> Int64[Tensor, "H W"] | None:
        return _upright(self.resolution)

    def padding(self) -> Float64[Tensor, "P 2"]:
        if self.resolution == 1:
            return torch.zeros(0, 2, dtype=torch.float64)
        layers = max(1, math.ceil(self.resolution / (4 * self.max_val)))
        side = self.resolution + 2 * layers
        around = torch.ones(side, side, dtype=torch.bool)
        around[layers:-layers, layers:-layers] = False
        cells = self._cells(layers)[around.flatten()]
        return to_polar(self._warp().to_visual(cells), self.radius)

    def cortical(
        self, polar: Float64[Tensor, "N 2"], manifold: SensorManifold
    ) -> Float64[Tensor, "N D"]:
        return self._warp().to_native(to_plane(polar, self.radius))

    def valid(self) -> Bool[Tensor, " N"] | None:
        return self._inside(self.coordinates())

    def spacing(self, eccentricity: Float64[Tensor, "*N"]) -> Float64[Tensor, "*N"]:
        cell = 2 * self.max_val / self.resolution
        return cell * self._warp()._depth * (eccentricity + self.cmf_a)
