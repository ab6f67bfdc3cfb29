"""Cortical magnification: how much cortex a degree of the visual field gets."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fovigraph._checks import positive_float
from fovigraph._tensors import finite, may_inspect, real_tensor

CORTICAL_SCALE = 10.0
"""k of M(r) = k / (r + a), in millimetres: a mere scale, fixed for every array."""

CMF_A = (1e-6, 1e6)
"""The smallest and the largest *a*, degrees.

From one at which a thousandth of a degree is periphery to one at which the whole visual field is
fovea. Beyond, double precision no longer tells the places of neighbours on the cortex apart.
"""


def check_cmf_a(value: Any) -> float:
    """Return the constant *a* as a float, or say which are allowed."""
    return positive_float("cmf_a", value, *CMF_A)


def check_eccentricity(name: str, value: Any) -> None:
    """Say that ``name`` must be a tensor of real numbers that are finite and not negative."""
    check_not_negative(name, finite(name, real_tensor(name, value)))


def check_not_negative(name: str, eccentricity: Tensor) -> None:
    """Say that ``name`` must be eccentricities of at least 0."""
    if may_inspect(eccentricity) and (eccentricity < 0).any():
        raise ValueError(f"{name} must be at least 0 degrees, got {eccentricity.min().item():g}")


def magnification(eccentricity: Tensor, cmf_a: float) -> Tensor:
    r"""Linear cortical magnification :math:`M(r) = k / (r + a)`.

    Args:
        eccentricity: Distance from the point of gaze, degrees, any shape.
        cmf_a: The constant *a*, degrees; the smaller, the more foveated.

    Returns:
        Millimetres of cortex per degree of the visual field, the shape of ``eccentricity``.

    Raises:
        ValueError, TypeError: If ``eccentricity`` is no tensor of real numbers or is negative, or
            ``cmf_a`` is not from 1e-6 to 1e6.
    """
    check_eccentricity("eccentricity", eccentricity)
    cmf_a = check_cmf_a(cmf_a)
    return CORTICAL_SCALE / (eccentricity + cmf_a)
