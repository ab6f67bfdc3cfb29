"""Cortical magnification: how much cortex a degree of the visual field gets."""

from __future__ import annotations

from torch import Tensor

CORTICAL_SCALE = 10.0
"""k of M(r) = k / (r + a), in millimetres: a mere scale, fixed for every array."""


def magnification(eccentricity: Tensor, cmf_a: float) -> Tensor:
    r"""Linear cortical magnification :math:`M(r) = k / (r + a)`.

    Args:
        eccentricity: Distance from the point of gaze, degrees, any shape.
        cmf_a: The constant *a*, degrees; the smaller, the more foveated.

    Returns:
        Millimetres of cortex per degree of the visual field, the shape of ``eccentricity``.
    """
    return CORTICAL_SCALE / (eccentricity + cmf_a)
