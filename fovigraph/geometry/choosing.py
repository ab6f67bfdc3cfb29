"""Choosing the constant *a* of the cortical magnification: by pixels, or by the number of nodes."""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np

from fovigraph._checks import positive_float, positive_int
from fovigraph.geometry.array import SensorArray
from fovigraph.geometry.layout import FOV, MAX_SIDE
from fovigraph.geometry.magnification import CMF_A

TRIED = 10_000
"""Values of *a* tried for a number of nodes, evenly in the logarithm."""

TRIED_RANGE = (1e-3, 1e3)
"""The smallest and the largest of them, degrees."""


def cmf_a_of_pixels(view_size: float, side: int, fov: float) -> float:
    """Return the *a* for which the samples nearest to the gaze lie one pixel from it.

    So the fovea sees every pixel, and no sample is wasted between them. The array is taken to have
    ``side // 2`` rings, evenly spaced on the cortex (FOVI, Blauch, Alvarez & Konkle 2026).

    Args:
        view_size: Side of what is seen of the image, pixels.
        side: Side of the image that the array has as many samples as, pixels.
        fov: Diameter of the field of view, degrees.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above, or there is no such
            *a*: even evenly spaced rings are less than a pixel apart, or more than any fovea needs.

    Example:
        >>> from fovigraph.geometry import cmf_a_of_pixels
        >>> round(cmf_a_of_pixels(256, 64, 16.0), 4)
        0.7628
    """
    from scipy.optimize import brentq  # a quarter of a second, which not every network needs

    view_size = positive_float("view_size", view_size)
    rings = positive_int("side", side, MAX_SIDE) // 2
    fov = positive_float("fov", fov, *FOV)
    if rings < 2:
        raise ValueError(f"side must be at least 4 pixels, got {side}")

    def pixels(log_a: float) -> float:
        """How many pixels the first ring lies from the gaze, less one."""
        a = math.exp(log_a)
        return a * math.expm1(math.log1p(fov / (2 * a)) / (rings - 1)) * view_size / fov - 1

    low, high = (math.log(bound) for bound in CMF_A)
    if pixels(high) <= 0:
        raise ValueError(
            f"view_size must be above {2 * (rings - 1)} pixels for side={side}, got {view_size:g}: "
            "the first ring would lie within a pixel whatever cmf_a is"
        )
    if pixels(low) >= 0:
        raise ValueError(
            f"view_size must be smaller for side={side} and fov={fov:g}, got {view_size:g}: the "
            f"first ring lies beyond a pixel even with cmf_a={CMF_A[0]:g}"
        )
    return math.exp(brentq(pixels, low, high, xtol=1e-14))


def cmf_a_of_nodes(
    nodes: int, *, fov: float = 16.0, layout: str = "isotropic", field_geometry: str = "planar"
) -> list[tuple[float, int]]:
    """Return every resolution at which an array can have so many nodes, and an *a* for each.

    Of the values of *a* that give a resolution so many nodes, the smallest that was tried is
    returned: 10,000 from 1e-3 to 1e3 degrees, evenly in the logarithm.

    Args:
        nodes: Number of nodes, such as of the patches of a vision transformer.
        fov: Diameter of the field of view, degrees.
        layout, field_geometry: As for :class:`~fovigraph.SensorArray`.

    Returns:
        Pairs (cmf_a, resolution), by falling resolution; empty if there are none.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.

    Example:
        >>> from fovigraph import SensorArray
        >>> from fovigraph.geometry import cmf_a_of_nodes
        >>> cmf_a, resolution = cmf_a_of_nodes(64)[0]
        >>> len(SensorArray(resolution, cmf_a=cmf_a))
        64
    """
    positive_int("nodes", nodes, MAX_SIDE**2)
    values = np.geomspace(*TRIED_RANGE, TRIED).tolist()

    def count(resolution: int, cmf_a: float) -> int:
        array = SensorArray(
            resolution, fov=fov, cmf_a=cmf_a, layout=layout, field_geometry=field_geometry
        )
        return len(array)

    found = []
    for resolution in range(1, nodes + 1):
        # The less foveated an array of a resolution is, the more nodes it has.
        if count(resolution, values[0]) > nodes:
            break
        at = bisect_left(values, nodes, key=lambda cmf_a: count(resolution, cmf_a))
        if at < TRIED and count(resolution, values[at]) == nodes:
            found.append((values[at], resolution))
    return found[::-1]
