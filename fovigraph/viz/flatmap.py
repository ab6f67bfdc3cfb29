r"""The cortex, laid flat, as fovigraph draws it and as the literature does.

fovigraph's own map, ``"cortical"``, is one of the sensor manifold in millimetres. The surface is
cut along the vertical meridian, where the brain is cut in two as well, and each half is laid flat
so that the distance from the point of gaze and the length of every arc of equal eccentricity stay
true; so areas do too (Werner's projection). The left half of the visual field is on the left and
the upper half is up, as they are seen; in the brain both are the other way round.

The others are those of upstream (``isotropic_plotting_type``). Two are of the complex logarithm
:math:`W = \ln(|x| + a + iy)` of Schwartz (1980):

- ``"schwartz"``: :math:`W - \ln a`, upright, the two halves with their foveae in the middle;
- ``"v1like"``: as in the brain, the right half of the field on the left and the upper half below,
  the foveae outside;
- ``"warp"``: one disc, :math:`\ln(1 + r/a) / \ln(1 + h/a)` in every direction.

Layouts that do not lie on the sensor manifold have one map, whatever is asked for.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fovigraph._checks import instance, one_of
from fovigraph._tensors import finite
from fovigraph.geometry import SensorArray, complex_log, log_radius
from fovigraph.geometry.layout import to_plane
from fovigraph.geometry.magnification import CORTICAL_SCALE
from fovigraph.viz.field import Field

MAPS = ("cortical", "schwartz", "v1like", "warp")
"""The maps of the cortex."""


def flat_map(array: SensorArray, polar: Tensor | None = None, *, kind: str = "cortical") -> Tensor:
    """Lay visual points on a map of the cortex of an array.

    Layouts that do not lie on the sensor manifold have one map, whatever ``kind`` is: those with
    two cortical coordinates these; lattices of pixels, which lie on a flat sheet, degrees; and
    ``"logpolar_cylinder"`` two halves of a cylinder, each a rectangle.

    Args:
        array: Whose cortex it is.
        polar: Eccentricity (degrees) and polar angle (radians), ``[M, 2]``; the nodes if ``None``.
        kind: ``"cortical"``, in millimetres, true in area, the point of gaze at (0, 0); or one of
            upstream's, which have no unit: ``"v1like"``, ``"schwartz"``, ``"warp"``.

    Returns:
        x and y, ``[M, 2]``, float64.

    Raises:
        TypeError, ValueError: If ``array`` is no array, ``polar`` no tensor ``[M, 2]``, or there is
            no such kind.

    Example:
        >>> from fovigraph import SensorArray
        >>> from fovigraph.viz import flat_map
        >>> flat_map(SensorArray.matched(64)).shape
        torch.Size([4085, 2])
        >>> flat_map(SensorArray(8), kind="v1like")[3]
        tensor([ 2.9588, -0.3329], dtype=torch.float64)
    """
    instance("array", array, SensorArray)
    one_of("kind", kind, MAPS)
    if polar is not None:
        instance("polar", polar, Tensor, allowed="a torch.Tensor [M, 2] or None")
        if polar.ndim != 2 or polar.shape[1] != 2 or polar.is_complex():
            raise ValueError(
                "polar must be real numbers of shape [M, 2], "
                f"got {list(polar.shape)} of {polar.dtype}"
            )
        finite("polar", polar)
    polar = array.polar if polar is None else polar.double()
    if array._layout.relative:
        eccentricity, angle = polar.unbind(-1)
        return _on_lattice(array, torch.stack((eccentricity, angle.remainder(2 * math.pi)), -1))
    if array._layout.sheet:
        return to_plane(polar, 1.0)
    if not is_cut(array, kind):
        return _as_disc(array, polar)
    # Upright and hanging are angles that rounding must not send to both sides.
    eccentricity, angle = polar.unbind(-1)
    side = torch.where(angle.cos() >= -1e-6, 1.0, -1.0)
    elevation = torch.atan2(angle.sin(), side * angle.cos())
    half = _right_half(array, torch.stack((eccentricity, elevation), dim=-1), kind)
    return half * torch.stack((side, torch.ones_like(side)), dim=-1)


def is_cut(array: SensorArray, kind: str) -> bool:
    """Whether a map is of two halves, rather than of one sheet."""
    return not (array._layout.sheet or (kind == "warp" and on_manifold(array)))


def on_manifold(array: SensorArray) -> bool:
    """Whether the cortex is the sensor manifold, of which there are several maps."""
    return not (array._layout.sheet or array._layout.fitted)


def map_labels(array: SensorArray, kind: str) -> tuple[str, str]:
    """Return what the two axes of a map are, with their units."""
    layout = array._layout
    if layout.relative and layout.period is not None:
        return "depth, from the point of gaze to the last ring (no unit)", "polar angle (turns)"
    if layout.relative:
        return "left – right on the lattice (no unit)", "down – up (no unit)"
    if not layout.has_cortex:
        return "right of the point of gaze (degrees)", "above the point of gaze (degrees)"
    if on_manifold(array) and kind in _UNITLESS:
        return _UNITLESS[kind]
    return "left – right on the flattened cortex (mm)", "down – up (mm)"


_UNITLESS = {
    "v1like": ("± ln |z + a| (no unit)", "− angle of z + a (radians)"),
    "schwartz": ("± ln |z + a| (no unit)", "angle of z + a (radians)"),
    "warp": ("left – right, ln(1 + r/a) (no unit)", "down – up (no unit)"),
}


def flat_outlines(array: SensorArray, field: Field, kind: str = "cortical") -> list[Tensor]:
    """Return what surrounds a map of the cortex of a field.

    Returns:
        Closed curves, each ``[M, 2]``: one round a sheet, one round each half of a surface that is
        cut.
    """
    layout = array._layout
    if layout.relative and layout.period is not None:  # from half a cell before to half a cell less
        half = math.pi / array.resolution
        outer = _on_lattice(array, field.border(-half, 2 * math.pi - half))
        inner = torch.stack((torch.full_like(outer[:, 0], -0.5 / _steps(array)), outer[:, 1]), -1)
        return [torch.cat((outer, inner.flip(0)))]
    if not is_cut(array, kind):
        return [flat_map(array, field.border(), kind=kind)]
    quarter = math.pi / 2
    upright = field.reach(torch.tensor([quarter], dtype=torch.float64))
    radii = torch.linspace(0, 1, 200, dtype=torch.float64) ** 2 * upright
    up = torch.stack((radii, torch.full_like(radii, quarter)), dim=-1)
    down = up.flip(0) * up.new_tensor([1.0, -1.0])
    right = _right_half(array, torch.cat((up, field.border(quarter, -quarter), down)), kind)
    return [right, right * right.new_tensor([-1.0, 1.0])]


def flat_circle(array: SensorArray, eccentricity: float, kind: str = "cortical") -> list[Tensor]:
    """Return where a circle of equal eccentricity (degrees) lies: curves as in a flat outline."""
    if array._layout.relative and array._layout.period is not None:
        half = math.pi / array.resolution
        return [_on_lattice(array, _arc(eccentricity, -half, 2 * math.pi - half))]
    if not is_cut(array, kind):
        return [flat_map(array, _arc(eccentricity, 0.0, 2 * math.pi), kind=kind)]
    polar = _arc(eccentricity, math.pi / 2, -math.pi / 2)
    right = _right_half(array, polar, kind)
    return [right, right * right.new_tensor([-1.0, 1.0])]


def gaze_places(array: SensorArray, kind: str) -> Tensor:
    """Return where the point of gaze is on a map, ``[0 to 2, 2]``; on a log-polar one, nowhere."""
    if array._layout.relative and array._layout.period is not None:
        return torch.zeros(0, 2, dtype=torch.float64)
    both = torch.tensor([[0.0, 0.0], [0.0, math.pi]], dtype=torch.float64)
    return torch.unique(flat_map(array, both, kind=kind), dim=0)


def _arc(eccentricity: float, start: float, stop: float) -> Tensor:
    angle = torch.linspace(start, stop, 361, dtype=torch.float64)
    return torch.stack((torch.full_like(angle, eccentricity), angle), dim=-1)


def _steps(array: SensorArray) -> int:
    """From ring to ring, of one array."""
    return max(array.resolution - 1, 1)


def _on_lattice(array: SensorArray, polar: Tensor) -> Tensor:
    """The two cortical coordinates of points; angles may lie beyond a turn."""
    return array._layout.cortical(polar, array.manifold)


def _as_disc(array: SensorArray, polar: Tensor) -> Tensor:
    """The ``"warp"`` of points: the logarithm of the eccentricity, in every direction."""
    radius = log_radius(to_plane(polar, array.fov / 2), array.fov, array.cmf_a)
    return to_plane(torch.stack((radius, polar[:, 1]), dim=-1), 1.0)


def _right_half(array: SensorArray, polar: Tensor, kind: str) -> Tensor:
    """Lay points of the right half, at angles from -π/2 to π/2, flat."""
    if kind != "cortical" and on_manifold(array):
        return _right_half_log(array, polar, kind)
    eccentricity, elevation = polar.unbind(-1)
    along = CORTICAL_SCALE * torch.log1p(eccentricity / array.cmf_a)
    if array.layout == "logpolar_cylinder":
        circumference = CORTICAL_SCALE * math.log1p(array.fov / 2 / array.cmf_a)
        return torch.stack((along, circumference * elevation / (2 * math.pi)), dim=-1)
    rho, _ = array.manifold.profile(eccentricity)
    turn = elevation * torch.where(along > 0, rho / along.clamp_min(1e-12), 1.0)
    return torch.stack((along * turn.cos(), along * turn.sin()), dim=-1)


def _right_half_log(array: SensorArray, polar: Tensor, kind: str) -> Tensor:
    """The same by the complex logarithm; the halves are parted by some of its spread."""
    nodes, _ = complex_log(array.cartesian, array.fov, array.cmf_a).unbind(-1)
    spread = nodes.std() / 2 if len(nodes) > 1 else nodes.new_zeros(())
    plane = to_plane(polar, array.fov / 2)
    distance, angle = complex_log(plane, array.fov, array.cmf_a).unbind(-1)
    if kind == "v1like":
        edge = math.log(array.fov / 2 + array.cmf_a)
        return torch.stack((distance - spread - edge, -angle), dim=-1)
    return torch.stack((distance - math.log(array.cmf_a) + 0.1 * spread, angle), dim=-1)
