"""The cortex, flattened: a map of the sensor manifold in millimetres.

The surface is cut along the vertical meridian, where the brain is cut in two as well, and each half
is laid flat so that the distance from the point of gaze and the length of every arc of equal
eccentricity stay true; so areas do too (Werner's projection). The left half of the visual field is
on the left and the upper half is up, as they are seen; in the brain both are the other way round.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fovigraph._checks import instance
from fovigraph._tensors import finite
from fovigraph.geometry import SensorArray
from fovigraph.geometry.magnification import CORTICAL_SCALE


def flat_map(array: SensorArray, polar: Tensor | None = None) -> Tensor:
    """Lay visual points on the flattened cortex of an array.

    Lattices of pixels lie on a flat sheet as they are, ``"logpolar_cylinder"`` on a cylinder, of
    which each half is a rectangle, and layouts with two cortical coordinates on those.

    Args:
        array: Whose cortex it is.
        polar: Eccentricity (degrees) and polar angle (radians), ``[M, 2]``; the nodes if ``None``.

    Returns:
        x and y in millimetres, the point of gaze at (0, 0), ``[M, 2]``, float64.

    Raises:
        TypeError, ValueError: If ``array`` is no array, or ``polar`` no tensor ``[M, 2]``.

    Example:
        >>> from fovigraph import SensorArray
        >>> from fovigraph.viz import flat_map
        >>> flat_map(SensorArray.matched(64)).shape
        torch.Size([4085, 2])
    """
    instance("array", array, SensorArray)
    if polar is not None:
        instance("polar", polar, Tensor, allowed="a torch.Tensor [M, 2] or None")
        if polar.ndim != 2 or polar.shape[1] != 2 or polar.is_complex():
            raise ValueError(
                "polar must be real numbers of shape [M, 2], "
                f"got {list(polar.shape)} of {polar.dtype}"
            )
        finite("polar", polar)
    eccentricity, angle = (array.polar if polar is None else polar.double()).unbind(-1)
    if array._layout.relative:
        polar = torch.stack((eccentricity, angle.remainder(2 * math.pi)), dim=-1)
        return array._layout.cortical(polar, array.manifold)
    if array._layout.sheet:
        return torch.stack((eccentricity * angle.cos(), eccentricity * angle.sin()), dim=-1)
    # Upright and hanging are angles that rounding must not send to both sides.
    side = torch.where(angle.cos() >= -1e-6, 1.0, -1.0)
    elevation = torch.atan2(angle.sin(), side * angle.cos())
    half = _right_half(array, eccentricity, elevation)
    return half * torch.stack((side, torch.ones_like(side)), dim=-1)


def flat_outlines(array: SensorArray, eccentricity: float) -> list[Tensor]:
    """Return what surrounds the flattened cortex out to ``eccentricity`` degrees.

    Returns:
        Closed curves, each ``[M, 2]``, millimetres: one round a sheet, one round each half of a
        surface that is cut.
    """
    if array._layout.sheet:
        return [flat_map(array, _arc(eccentricity, 0.0, 2 * math.pi))]
    radii = torch.linspace(0, 1, 200, dtype=torch.float64) ** 2 * eccentricity
    quarter = math.pi / 2
    elevation = torch.full_like(radii, quarter)
    right = torch.cat(
        (
            _right_half(array, radii, elevation),
            _right_half(array, *_arc(eccentricity, quarter, -quarter).unbind(-1)),
            _right_half(array, radii.flip(0), -elevation),
        )
    )
    return [right, right * right.new_tensor([-1.0, 1.0])]


def flat_circle(array: SensorArray, eccentricity: float) -> list[Tensor]:
    """Return where a circle of equal eccentricity (degrees) lies: curves as in a flat outline."""
    if array._layout.sheet:
        return flat_outlines(array, eccentricity)
    polar = _arc(eccentricity, math.pi / 2, -math.pi / 2)
    right = _right_half(array, *polar.unbind(-1))
    return [right, right * right.new_tensor([-1.0, 1.0])]


def _arc(eccentricity: float, start: float, stop: float) -> Tensor:
    angle = torch.linspace(start, stop, 200, dtype=torch.float64)
    return torch.stack((torch.full_like(angle, eccentricity), angle), dim=-1)


def _right_half(array: SensorArray, eccentricity: Tensor, elevation: Tensor) -> Tensor:
    """Lay points of the right half, at an angle ``elevation`` from the horizontal, flat."""
    along = CORTICAL_SCALE * torch.log1p(eccentricity / array.cmf_a)
    if array.layout == "logpolar_cylinder":
        circumference = CORTICAL_SCALE * math.log1p(array.fov / 2 / array.cmf_a)
        return torch.stack((along, circumference * elevation / (2 * math.pi)), dim=-1)
    rho, _ = array.manifold.profile(eccentricity)
    turn = elevation * torch.where(along > 0, rho / along.clamp_min(1e-12), 1.0)
    return torch.stack((along * turn.cos(), along * turn.sin()), dim=-1)
