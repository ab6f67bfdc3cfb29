"""Conversions between the coordinates that vision science uses."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fovigraph._checks import instance, positive_float
from fovigraph._tensors import finite, real_tensor
from fovigraph.geometry.array import SensorArray
from fovigraph.geometry.layout import FOV, to_plane, to_polar
from fovigraph.geometry.magnification import check_cmf_a


def polar_to_cartesian(polar: Float[Tensor, "*N 2"]) -> Float64[Tensor, "*N 2"]:
    """Return x (right) and y (up), in the unit of the radius, of polar coordinates.

    Args:
        polar: Radius, in any unit, and angle, radians from +x towards +y, ``[..., 2]``.

    Raises:
        ValueError, TypeError: If ``polar`` is no tensor of finite real numbers ``[..., 2]``.

    Example:
        >>> import math, torch
        >>> from fovigraph.geometry import polar_to_cartesian
        >>> polar_to_cartesian(torch.tensor([2.0, math.pi])).round(decimals=6)
        tensor([-2., -0.], dtype=torch.float64)
    """
    return to_plane(_pairs("polar", polar), 1.0)


def cartesian_to_polar(cartesian: Float[Tensor, "*N 2"]) -> Float64[Tensor, "*N 2"]:
    """Invert :func:`polar_to_cartesian`: angles from 0 to 2π.

    Raises:
        ValueError, TypeError: If ``cartesian`` is no tensor of finite real numbers ``[..., 2]``.
    """
    return to_polar(_pairs("cartesian", cartesian), 1.0)


def row_column_to_xy(place: Float[Tensor, "*N 2"]) -> Float64[Tensor, "*N 2"]:
    """Return where a place in an image lies in a field that the image fills.

    Args:
        place: (row, column) as fractions of the image from its upper left corner, as fixations are,
            ``[..., 2]``.

    Returns:
        x (right) and y (up), ``[..., 2]``; the image's sides are at -1 and 1.

    Raises:
        ValueError, TypeError: If ``place`` is no tensor of finite real numbers ``[..., 2]``.

    Example:
        >>> import torch
        >>> from fovigraph.geometry import row_column_to_xy
        >>> row_column_to_xy(torch.tensor([0.25, 1.0]))
        tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    row, column = _pairs("place", place).unbind(-1)
    return torch.stack((2 * column - 1, 1 - 2 * row), dim=-1)


def xy_to_row_column(xy: Float[Tensor, "*N 2"]) -> Float64[Tensor, "*N 2"]:
    """Invert :func:`row_column_to_xy`.

    Raises:
        ValueError, TypeError: If ``xy`` is no tensor of finite real numbers ``[..., 2]``.
    """
    x, y = _pairs("xy", xy).unbind(-1)
    return torch.stack(((1 - y) / 2, (1 + x) / 2), dim=-1)


def log_radius(cartesian: Float[Tensor, "*N 2"], fov: float, cmf_a: float) -> Float64[Tensor, "*N"]:
    r"""Return :math:`\ln(1 + r/a) / \ln(1 + h/a)`: 0 at the point of gaze, 1 at the field's edge.

    Args:
        cartesian: x and y in radii *h* of the field of view, ``[..., 2]``.
        fov: Diameter of the field of view, degrees.
        cmf_a: The constant *a* of the cortical magnification, degrees.

    Returns:
        ``[...]``; beyond 1 outside the field.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.
    """
    radius, cmf_a = positive_float("fov", fov, *FOV) / 2, check_cmf_a(cmf_a)
    eccentricity = _pairs("cartesian", cartesian).norm(dim=-1) * radius
    return torch.log1p(eccentricity / cmf_a) / math.log1p(radius / cmf_a)


def complex_log(
    cartesian: Float[Tensor, "*N 2"], fov: float, cmf_a: float
) -> Float64[Tensor, "*N 2"]:
    r"""Return the complex logarithm :math:`\ln(|x| + a + iy)`, of both halves of the field alike.

    The map of the visual field on the visual cortex of Schwartz (1980), in degrees: the left half
    of the field is mirrored onto the right one, as each half of the brain has a map of its own.

    Args:
        cartesian: x and y in radii of the field of view, ``[..., 2]``.
        fov: Diameter of the field of view, degrees.
        cmf_a: The constant *a*, degrees.

    Returns:
        Its real part and its imaginary part (an angle, radians), ``[..., 2]``.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.

    Example:
        >>> import torch
        >>> from fovigraph.geometry import complex_log
        >>> complex_log(torch.tensor([[0.0, 0.0], [-1.0, 0.0]]), fov=16.0, cmf_a=0.5)
        tensor([[-0.6931,  0.0000],
                [ 2.1401,  0.0000]], dtype=torch.float64)
    """
    radius, cmf_a = positive_float("fov", fov, *FOV) / 2, check_cmf_a(cmf_a)
    x, y = (_pairs("cartesian", cartesian) * radius).unbind(-1)
    right = x.abs() + cmf_a
    return torch.stack((torch.hypot(right, y).log(), torch.atan2(y, right)), dim=-1)


def first_ring(array: SensorArray) -> Float64[Tensor, "M 2"]:
    """Return the nodes that are nearest to the point of gaze, but not at it.

    How far they are from one another and from the gaze is the finest detail that an array sees.

    Args:
        array: The nodes.

    Returns:
        x and y in radii of the field of view, ``[M, 2]``, in the order of the nodes.

    Raises:
        ValueError, TypeError: If ``array`` is no array, or all its nodes are at the point of gaze.

    Example:
        >>> from fovigraph import SensorArray
        >>> from fovigraph.geometry import first_ring
        >>> first_ring(SensorArray(8))[0]
        tensor([0.0312, 0.0000], dtype=torch.float64)
    """
    instance("array", array, SensorArray)
    eccentricity = array.eccentricity
    away = eccentricity > 1e-9 * array.fov
    if not away.any():
        raise ValueError(f"array must have nodes away from the point of gaze, got {array!r}")
    return array.cartesian[away & (eccentricity <= eccentricity[away].min() * (1 + 1e-6))]


def _pairs(name: str, values: Tensor) -> Tensor:
    return finite(name, real_tensor(name, values, ("...", 2))).double()
