"""The sensor manifold: the curved surface on which foveated samples are evenly dense.

A surface of revolution about the z axis. A visual point at eccentricity r and polar angle θ lies
at the cylindrical coordinates (ρ(r), θ, z(r)), where z makes a step along the radius M(r) times as
long as in the visual field: z(r) = ∫ sqrt(M² − (dρ/dr)²) dr (Rovamo & Virsu 1984; Motter 2009).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fovigraph._checks import one_of
from fovigraph._tensors import finite, may_inspect, real_tensor
from fovigraph.geometry.magnification import (
    CORTICAL_SCALE,
    check_cmf_a,
    check_eccentricity,
    check_not_negative,
)


class SensorManifold(ABC):
    """A surface of revolution that eccentricities (degrees) are laid on, in millimetres.

    Args:
        cmf_a: The constant *a* of the cortical magnification, degrees, from 1e-6 to 1e6.

    Raises:
        ValueError, TypeError: If ``cmf_a`` is not of the kind said above.
    """

    _by_numpy = False

    def __init__(self, cmf_a: float):
        self.cmf_a = check_cmf_a(cmf_a)

    @abstractmethod
    def _profile(
        self, eccentricity: Float64[Tensor, "*N"]
    ) -> tuple[Float64[Tensor, "*N"], Float64[Tensor, "*N"]]:
        """Return ρ and z, as :meth:`profile`."""

    @abstractmethod
    def _eccentricity(
        self, rho: Float64[Tensor, "*N"], z: Float64[Tensor, "*N"]
    ) -> Float64[Tensor, "*N"]:
        """Invert :meth:`profile`."""

    def _check(self, name: str, points: Tensor) -> None:
        """Say which points this surface cannot compute with."""
        if not self._by_numpy or not (points.requires_grad or points.device.type != "cpu"):
            return
        grad = " that requires a gradient" if points.requires_grad else ""
        raise ValueError(
            f"{name} must be on the CPU and require no gradient for a {type(self).__name__}, got a "
            f"tensor on {points.device}{grad}"
        )

    def profile(
        self, eccentricity: Float64[Tensor, "*N"]
    ) -> tuple[Float64[Tensor, "*N"], Float64[Tensor, "*N"]]:
        """Return ρ and z (millimetres) at ``eccentricity`` (degrees, any shape).

        Raises:
            ValueError, TypeError: If ``eccentricity`` is no tensor of real numbers, not finite,
                negative, or beyond where the surface ends.
        """
        check_eccentricity("eccentricity", eccentricity)
        self._check("eccentricity", eccentricity)
        return self._profile(eccentricity)

    def to_cortical(self, polar: Float[Tensor, "*N 2"]) -> Float64[Tensor, "*N 3"]:
        """Lay visual points on the surface.

        Args:
            polar: Eccentricity (degrees) and polar angle (radians), ``[..., 2]``.

        Returns:
            Cartesian cortical coordinates in millimetres, ``[..., 3]``, float64.

        Raises:
            ValueError, TypeError: If ``polar`` is not such a tensor, not finite, or an eccentricity
                is negative or beyond where the surface ends.
        """
        finite("polar", real_tensor("polar", polar, ("...", 2)))
        check_not_negative("polar[..., 0]", polar[..., 0])
        self._check("polar", polar)
        return self._to_cortical(polar)

    def _to_cortical(self, polar: Float[Tensor, "*N 2"]) -> Float64[Tensor, "*N 3"]:
        eccentricity, angle = polar.double().unbind(-1)
        rho, z = self._profile(eccentricity)
        return torch.stack((rho * angle.cos(), rho * angle.sin(), z), dim=-1)

    def to_polar(self, cortical: Float[Tensor, "*N 3"]) -> Float64[Tensor, "*N 2"]:
        """Invert :meth:`to_cortical`.

        Args:
            cortical: Points on the surface in millimetres, ``[..., 3]``.

        Returns:
            Eccentricity (degrees) and polar angle (radians, in [0, 2π)), ``[..., 2]``, float64.

        Raises:
            ValueError, TypeError: If ``cortical`` is not such a tensor or not finite, or lies where
                the surface does not reach.
        """
        finite("cortical", real_tensor("cortical", cortical, ("...", 3)))
        self._check("cortical", cortical)
        x, y, z = cortical.double().unbind(-1)
        angle = torch.atan2(y, x).remainder(2 * math.pi)
        return torch.stack((self._eccentricity(torch.hypot(x, y), z), angle), dim=-1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(cmf_a={self.cmf_a:g})"


class PlanarManifold(SensorManifold):
    r"""The surface of a flat image: :math:`\rho = M(r)\,r`, the ring spacing of the sampling.

    The integral is closed: with :math:`t = \sqrt{(r/a + 1)^2 - 1}`,
    :math:`z = k\,(\operatorname{asinh} t - t / \sqrt{1 + t^2})`.
    """

    def _profile(
        self, eccentricity: Float64[Tensor, "*N"]
    ) -> tuple[Float64[Tensor, "*N"], Float64[Tensor, "*N"]]:
        rho = CORTICAL_SCALE / (eccentricity + self.cmf_a) * eccentricity
        ratio = eccentricity / self.cmf_a
        t = torch.sqrt(ratio * (ratio + 2))
        return rho, CORTICAL_SCALE * (torch.asinh(t) - t / (ratio + 1))

    def _eccentricity(
        self, rho: Float64[Tensor, "*N"], z: Float64[Tensor, "*N"]
    ) -> Float64[Tensor, "*N"]:
        if may_inspect(rho) and (rho >= CORTICAL_SCALE).any():
            raise ValueError(
                f"cortical must lie less than {CORTICAL_SCALE:g} mm from the axis of the planar "
                f"surface, got {rho.max().item():g}"
            )
        return self.cmf_a * rho / (CORTICAL_SCALE - rho)


class LegacyManifold(SensorManifold):
    r"""The paper's and tutorial's surface: :math:`\rho = M(r) \sin(r)\,180/\pi`, r as an angle.

    z is integrated by trapezoids on a mesh of 1e-4 degrees and interpolated linearly. Checkpoints
    trained before the planar surface existed need this one. It is defined up to 180 degrees, for
    points on the CPU, and has no gradients.
    """

    MESH = 1e-4

    _by_numpy = True

    def _profile(
        self, eccentricity: Float64[Tensor, "*N"]
    ) -> tuple[Float64[Tensor, "*N"], Float64[Tensor, "*N"]]:
        mesh, z = self._mesh(float(eccentricity.max()) if eccentricity.numel() else 0.0)
        rho = (
            CORTICAL_SCALE
            / (eccentricity + self.cmf_a)
            * torch.rad2deg(torch.sin(torch.deg2rad(eccentricity)))
        )
        return rho, torch.from_numpy(np.asarray(np.interp(eccentricity.numpy(), mesh, z)))

    def _eccentricity(
        self, rho: Float64[Tensor, "*N"], z: Float64[Tensor, "*N"]
    ) -> Float64[Tensor, "*N"]:
        # ρ rises and falls again, z only rises: z tells where we are. The mesh grows to cover it.
        highest, reach = (float(z.max()) if z.numel() else 0.0), 16.0
        mesh, height = self._mesh(reach)
        while height[-1] < highest and reach < 180:
            reach = min(2 * reach, 180.0)
            mesh, height = self._mesh(reach)
        if height[-1] < highest:
            raise ValueError(
                f"cortical must lie at most {height[-1]:g} mm high, where the legacy surface ends, "
                f"got {highest:g}"
            )
        return torch.from_numpy(np.asarray(np.interp(z.numpy(), height, mesh)))

    def _mesh(self, reach: float) -> tuple[np.ndarray, np.ndarray]:
        """Eccentricities from 0 to just past ``reach`` (degrees) and their z (millimetres)."""
        if reach > 180:
            raise ValueError(
                "the 'legacy' sensor manifold ends at an eccentricity of 180 degrees, "
                f"got {reach:g}; a smaller fov or field_geometry='planar' stays on the surface"
            )
        r = np.arange(math.ceil(reach / self.MESH) + 2) * self.MESH
        m = CORTICAL_SCALE / (r + self.cmf_a)
        sine = np.rad2deg(np.sin(np.deg2rad(r)))
        slope = m * (np.cos(np.deg2rad(r)) - sine / (r + self.cmf_a))
        rise = np.sqrt(np.maximum(m**2 - slope**2, 0))
        z = np.concatenate(([0.0], np.cumsum((rise[1:] + rise[:-1]) * (self.MESH / 2))))
        return r, z


MANIFOLDS: dict[str, type[SensorManifold]] = {"planar": PlanarManifold, "legacy": LegacyManifold}


def sensor_manifold(field_geometry: str, cmf_a: float) -> SensorManifold:
    """Return the surface named ``field_geometry``: ``"planar"`` or ``"legacy"``.

    Raises:
        ValueError, TypeError: If there is no such surface, or ``cmf_a`` is not from 1e-6 to 1e6.
    """
    return MANIFOLDS[one_of("field_geometry", field_geometry, MANIFOLDS)](cmf_a)
