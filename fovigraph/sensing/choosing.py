"""Choosing the constant *a* of the cortical magnification by what a camera resolves."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from fovigraph._checks import instance, positive_float, positive_int
from fovigraph.geometry.fixed import isolated
from fovigraph.geometry.layout import FOV, MAX_SIDE, last_that
from fovigraph.geometry.magnification import CMF_A
from fovigraph.geometry.rings import Isotropic, ring_sizes
from fovigraph.sensing.camera import Camera, field_rays

MAX_FOV = 180.0
"""The largest field of view on a sphere, degrees."""

LOG_STEPS = np.arange(-8.0, 4.125, 0.25)
"""Logarithms of the first values of *a* tried, in fields of view."""

TOLERANCE = 0.05
"""Pixels that the nearest sample may lie off the pixel it should lie at."""


@isolated
def cmf_a_of_camera(
    camera: Camera, fov: float, *, resolution: int | None = None, side: int | None = None
) -> float:
    """Return the *a* for which the samples nearest to the gaze lie one pixel from it.

    The gaze is at the middle of the image; the nearest sample of the first ring of an isotropic
    array on the sphere counts. If the array is matched to a side, its rings follow from *a*.

    Args:
        camera: The camera.
        fov: Diameter of the field of view, degrees, at most 180.
        resolution: Number of rings, at least 2; or
        side: side of the image that the array has at most as many nodes as, pixels, at least 2.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above, or there is no such
            *a*: no sample comes within 5 % of one pixel.

    Example:
        >>> from fovigraph.sensing import Camera, cmf_a_of_camera
        >>> camera = Camera("pinhole", (480, 640), (500, 500, 319.5, 239.5))
        >>> round(cmf_a_of_camera(camera, 60.0, resolution=26), 4)
        0.7026
    """
    instance("camera", camera, Camera)
    fov = positive_float("fov", fov, FOV[0], MAX_FOV)
    from scipy.optimize import minimize_scalar  # which takes a while

    if (resolution is None) == (side is None):
        raise ValueError(
            "exactly one of resolution and side must be given, "
            f"got resolution={resolution!r} and side={side!r}"
        )
    name, size = ("side", side) if resolution is None else ("resolution", resolution)
    size = positive_int(name, size, MAX_SIDE)
    if size < 2:
        raise ValueError(f"{name} must be at least 2, got {size}")
    rotation, valid = camera.gaze(torch.tensor([[0.5, 0.5]], dtype=torch.float64))
    if not valid.all():
        raise ValueError("camera must see the middle of its image, where the gaze is")

    def off(log_a: float) -> float:
        """How many pixels the nearest sample lies off its place."""
        cmf_a = math.exp(log_a)
        rings = size if side is None else _most_rings(fov, cmf_a, size**2)
        return abs(_nearest_pixels(camera, rotation[0], fov, cmf_a, rings) - 1)

    # The number of rings and of the nodes on the first jumps: there may be several minima.
    low, high = (math.log(bound) for bound in CMF_A)
    tried = (math.log(fov) + LOG_STEPS).clip(low, high)
    errors = [off(float(log_a)) for log_a in tried]
    found = list(zip(errors, tried.tolist(), strict=True))
    for i in range(1, len(tried) - 1):
        if errors[i] <= min(errors[i - 1], errors[i + 1]) and tried[i - 1] < tried[i + 1]:
            bounds = (float(tried[i - 1]), float(tried[i + 1]))
            best = minimize_scalar(off, bounds=bounds, method="bounded", options={"xatol": 1e-8})
            found.append((float(best.fun), float(best.x)))
    error, log_a = min(found)
    if not error <= TOLERANCE:
        raise ValueError(
            f"no cmf_a puts the first ring a pixel from the gaze for {name}={size} and "
            f"fov={fov:g} with this camera: the nearest is {error:.3g} pixels off"
        )
    return math.exp(log_a)


def _nearest_pixels(
    camera: Camera, rotation: Tensor, fov: float, cmf_a: float, rings: int
) -> float:
    """Return how far the nearest sample of the first ring lies from the image's middle, pixels."""
    if rings < 2:
        return math.inf
    radius, count = (each[1].item() for each in _rings(fov, cmf_a, rings))
    angle = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
    places = torch.stack((angle.cos(), angle.sin()), dim=-1) * (radius / (fov / 2))
    pixels = camera.project(field_rays(places, fov) @ rotation.mT).pixels
    height, width = camera.image_size
    middle = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64)
    return float((pixels - middle).norm(dim=-1).min())


def _rings(fov: float, cmf_a: float, rings: int) -> tuple[Tensor, Tensor]:
    """Return the eccentricities of rings on a sphere, degrees, and how many nodes they have."""
    radii = Isotropic(rings, fov, cmf_a)._radii(rings + 1)
    return radii, ring_sizes(radii, 360 * radii[1:-1].deg2rad().sin())


def _most_rings(fov: float, cmf_a: float, nodes: int) -> int:
    """Return the largest number of rings of no more than so many nodes."""
    return last_that(lambda rings: int(_rings(fov, cmf_a, rings)[1].sum()) <= nodes)
