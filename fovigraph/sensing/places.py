"""Places of nodes in single precision, as the ``fovi`` package computes them.

Computed in single precision from the first step on, so that both look up the same pixels, on their
borders too. That is as near to the truth as rounding at the end: a place in the image, some hundred
pixels from its corner, is no more exact in either.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from fovigraph.geometry import SensorArray
from fovigraph.geometry.fixed import isolated
from fovigraph.geometry.lattice import WarpedCartesian
from fovigraph.geometry.rings import IsotropicFixed, RingLayout


@isolated
def places(array: SensorArray) -> Float32[Tensor, "N 2"]:
    """Return the places of the nodes, in radii of the field of view, ``[N, 2]``."""
    if array.resolution == 1 or array.layout not in _PLACES:
        return array.cartesian.float()
    return _PLACES[array.layout](array)


def ring_radii(layout: RingLayout) -> Float32[Tensor, " R"]:
    """Return the radii of rings that are evenly spaced on the cortex, in radii of the field."""
    a = layout.cmf_a
    low, high = math.log(a), math.log(layout._reach() + a)
    spacing = (high - low) / (layout.resolution - 1)
    depth = torch.linspace(low, high + spacing, layout.resolution + 1)
    return (depth.exp() - a)[:-1] / layout.radius * layout.max_val


def around(radii: Float32[Tensor, " R"], sizes: Int64[Tensor, " R"]) -> Float32[Tensor, "N 2"]:
    """Return so many nodes on every ring, evenly from the angle 0."""
    ring = torch.repeat_interleave(sizes)
    within = torch.arange(len(ring)) - (sizes.cumsum(0) - sizes)[ring]
    angle = within.float() * (2 * math.pi / sizes.double()).float()[ring]
    return turned(radii[ring], angle)


class Square(NamedTuple):
    """What is left of rings in a square field.

    Attributes:
        nodes: The nodes, ``[N, 2]``.
        radii: How far they lie from the point of gaze, ``[N]``.
        outside: The nodes of the rings that are cut off, ``[M, 2]``.
    """

    nodes: Tensor
    radii: Tensor
    outside: Tensor


def cut_to_square(array: SensorArray) -> Square:
    """Return the nodes of an array of rings in a square field."""
    full = rings_of(array)
    radii, sizes = ring_radii(full), full._ring_sizes()
    rings = around(radii, sizes)
    _, inside, corners = full._cut()
    edges = torch.stack((corners[:, 1].cos().sign(), corners[:, 1].sin().sign()), dim=-1)
    edges = edges.float() * full.max_val
    nodes = torch.cat((rings[inside], edges))
    radii = torch.cat((radii.repeat_interleave(sizes)[inside], edges.norm(dim=1)))
    if isinstance(array._layout, IsotropicFixed):
        kept = array._layout._kept(full.coordinates())
        nodes, radii = nodes[kept], radii[kept]
    return Square(nodes, radii, rings[~inside])


def rings_of(array: SensorArray) -> RingLayout:
    """Return the layout of the rings that the nodes of an array are taken from."""
    layout = array._layout
    full = layout._full() if isinstance(layout, IsotropicFixed) else layout
    assert isinstance(full, RingLayout)  # there are no others
    return full


def lattice(array: SensorArray, margin: int = 0) -> Float32[Tensor, "C 2"]:
    """Return the centres of a lattice's cells in its own plane, with a margin of so many cells."""
    m, side = array._layout.max_val, array.resolution
    axis = torch.linspace(-m + m / side, m - m / side, side)
    if margin:
        steps = torch.arange(-margin, side + margin, dtype=torch.float32)
        axis = axis[0] + steps * (2 * m / side)
    return torch.cartesian_prod(axis, axis)


def warped(layout: WarpedCartesian, native: Float32[Tensor, "C 2"]) -> Float32[Tensor, "C 2"]:
    """Return the visual points of native ones."""
    depth, unit = layout._warp().law
    a, radius = layout.cmf_a, layout.radius
    length = torch.linalg.vector_norm(native, ord=layout.norm, dim=1)
    visual = a * torch.expm1(length / unit * depth) / radius
    factor = visual / length.clamp_min(torch.finfo(torch.float32).tiny)
    limit = a * depth / (unit * layout.radius)
    return native * torch.where(length > 0, factor, limit)[:, None]


def _isotropic(array: SensorArray) -> Tensor:
    if array.extent == "square":
        return cut_to_square(array).nodes
    sizes = array.eccentricity.unique_consecutive(return_counts=True)[1]
    return around(ring_radii(rings_of(array)), sizes)


def _logpolar(array: SensorArray) -> Tensor:
    angle = torch.arange(array.resolution, dtype=torch.float32) * (2 * math.pi / array.resolution)
    angle, radius = torch.cartesian_prod(angle, ring_radii(rings_of(array))).unbind(1)
    return turned(radius, angle)


def _warped(array: SensorArray) -> Tensor:
    assert isinstance(array._layout, WarpedCartesian)
    return warped(array._layout, lattice(array))


def turned(radius: Tensor, angle: Tensor) -> Tensor:
    return torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1)


_PLACES: dict[str, Callable[[SensorArray], Tensor]] = {
    "isotropic": _isotropic,
    "isotropic_fixn": _isotropic,
    "logpolar_image": _logpolar,
    "uniform_square": lattice,
    "warped_cartesian": _warped,
}
