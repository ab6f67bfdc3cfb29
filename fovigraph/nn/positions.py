"""Where tokens are: encodings of the places of an array's nodes, for attention."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fovigraph._checks import instance, one_of, positive_float, positive_int
from fovigraph.geometry import SensorArray
from fovigraph.geometry.fixed import FixedTensors, isolated

SPACES = ("visual", "cortical")


@isolated
def positions_of(array: SensorArray, space: str = "visual") -> Float[Tensor, "N A"]:
    """Return where the nodes of an array are, on axes scaled to about [-1, 1].

    Args:
        array: The array.
        space: ``"visual"``: row (down) and column (right), the edge of the field of view at 1.
            ``"cortical"``: the cortical coordinates, from their middle, the longest axis from -1 to
            1; a cortex that is a flat sheet has two axes, any other three.

    Returns:
        ``[N, 2]`` or ``[N, 3]``, float64.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.
    """
    instance("array", array, SensorArray)
    if one_of("space", space, SPACES) == "visual":
        x, y = array.cartesian.unbind(-1)
        return torch.stack((-y, x), dim=-1)
    low, high = array.cortical.aminmax(dim=0)
    middle, half = (low + high) / 2, (high - low) / 2
    flat = half <= 1e-9 * half.max()
    if flat[2]:
        return ((array.cortical - middle) / half.max().clamp_min(1e-12))[:, :2]
    return (array.cortical - middle) / half.max()


def _on_unit_axes(array: SensorArray, space: str) -> Tensor:
    """Return places with every axis scaled to [0, 1]: x and y, or the cortical coordinates."""
    places = positions_of(array, space)
    if space == "visual":
        places = torch.stack((places[:, 1], -places[:, 0]), dim=-1)
    low, high = places.aminmax(dim=0)
    return (places - low) / (high - low + 1e-8)


class SinusoidalPosition(nn.Module):
    """Sines and cosines of the places of nodes, added to their features.

    Channel 2i is the sine, 2i + 1 the cosine of the place on an axis times ``10000^(-2i / D)``;
    channels take turns with the axes, which are scaled to [0, 1], as upstream's do. The encoding is
    a buffer, saved with the network as upstream saves it.

    Args:
        array: The nodes.
        channels: Channels D.
        space: As for :func:`positions_of`.
    """

    encoding: Tensor

    def __init__(self, array: SensorArray, channels: int, space: str = "visual"):
        super().__init__()
        encoding = _sinusoids(array, positive_int("channels", channels), space)
        self.register_buffer("encoding", encoding.to(torch.get_default_device()))

    def forward(self, x: Float[Tensor, "*batch N D"]) -> Float[Tensor, "*batch N D"]:
        """Add the encoding."""
        return x + self.encoding.to(x.dtype)


@isolated
def _sinusoids(array: SensorArray, channels: int, space: str) -> Tensor:
    places = _on_unit_axes(array, space)
    channel = torch.arange(channels)
    omega = 10000.0 ** (-(channel // 2 * 2) / channels).double()
    angle = places[:, channel % places.shape[1]] * omega
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()


class LearnedPosition(nn.Module):
    """A learnt vector for every node, added to its features.

    Args:
        num_nodes: Nodes N.
        channels: Channels D.
    """

    def __init__(self, num_nodes: int, channels: int):
        super().__init__()
        nodes, width = positive_int("num_nodes", num_nodes), positive_int("channels", channels)
        self.weight = nn.Parameter(torch.empty(nodes, width))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, x: Float[Tensor, "*batch N D"]) -> Float[Tensor, "*batch N D"]:
        """Add the vectors."""
        return x + self.weight


class Rotary(FixedTensors):
    """Rotary positions (Su et al. 2021) on several axes, as DINOv3 has them.

    Pairs of channels, c and c + h/2 of a head of width h, are rotated by 2π times the place on an
    axis times ``base^(-2 A j / h)``, j counting the pairs of that axis and A the axes. With three
    axes, pairs that are left over stay as they are. A rotation keeps norms, and the product of a
    query and a key depends on where they are relative to each other.

    Args:
        array: The nodes.
        head_channels: Channels h of a head, even and at least twice the number of axes.
        space: As for :func:`positions_of`.
        base: The base of the frequencies.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.
    """

    cos: Tensor
    sin: Tensor

    def __init__(
        self,
        array: SensorArray,
        head_channels: int,
        space: str = "visual",
        base: float = 100.0,
    ):
        super().__init__()
        positive_int("head_channels", head_channels)
        angle = _rotary_angles(array, head_channels, space, positive_float("base", base))
        self.fix(cos=angle.cos().float(), sin=angle.sin().float())

    def forward(self, x: Float[Tensor, "*batch T h"]) -> Float[Tensor, "*batch T h"]:
        """Rotate queries or keys ``[*, T, h]``; tokens before the last N stay as they are."""
        prefix = x.shape[-2] - self.cos.shape[0]
        special, nodes = x.split((prefix, self.cos.shape[0]), dim=-2)
        first, second = nodes.chunk(2, dim=-1)
        turned = nodes * self.cos + torch.cat((-second, first), dim=-1) * self.sin
        return torch.cat((special, turned.to(x.dtype)), dim=-2)


@isolated
def _rotary_angles(array: SensorArray, width: int, space: str, base: float) -> Tensor:
    """Return the angle ``[N, h]`` of every node and channel."""
    places = positions_of(array, space)
    axes = places.shape[1]
    if width % 2 or width < 2 * axes:
        raise ValueError(
            f"head_channels must be even and at least {2 * axes} for positions on {axes} axes, "
            f"got {width}"
        )
    pairs = width // 2 // axes
    omega = base ** (-2 * axes * torch.arange(pairs).double() / width)
    angle = (2 * math.pi * places[:, :, None] * omega).flatten(1)
    left_over = angle.new_zeros(len(angle), width // 2 - angle.shape[1])
    return torch.cat((angle, left_over), dim=1).repeat(1, 2)


class CyclicShift(nn.Module):
    """What upstream's vision transformer does for rotary positions: a shift, not a rotation.

    Channel c becomes ``x[c] cos(p ω) + x[c - 1] sin(p ω)``, cyclic within each half of the head's
    channels; the first half is by x and the second by y, each scaled to [0, 1]. It changes norms,
    and products depend on absolute places. For upstream's checkpoints, which it is saved with, as
    buffers; :class:`Rotary` is for training.

    Args:
        array: The nodes.
        head_channels: Channels h of a head, a multiple of 4.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.
    """

    cos_x: Tensor
    sin_x: Tensor
    cos_y: Tensor
    sin_y: Tensor

    def __init__(self, array: SensorArray, head_channels: int):
        super().__init__()
        if positive_int("head_channels", head_channels) % 4:
            raise ValueError(f"head_channels must be a multiple of 4, got {head_channels}")
        for name, angle in zip("xy", _shift_angles(array, head_channels), strict=True):
            for function in ("cos", "sin"):
                values = getattr(angle, function)().float().to(torch.get_default_device())
                self.register_buffer(f"{function}_{name}", values)

    def forward(self, x: Float[Tensor, "*batch T h"]) -> Float[Tensor, "*batch T h"]:
        """Shift queries or keys ``[*, T, h]``; tokens before the last N stay as they are."""
        count = self.cos_x.shape[0]
        special, nodes = x.split((x.shape[-2] - count, count), dim=-2)
        by_x, by_y = nodes.chunk(2, dim=-1)
        by_x = by_x * self.cos_x + by_x.roll(1, -1) * self.sin_x
        by_y = by_y * self.cos_y + by_y.roll(1, -1) * self.sin_y
        return torch.cat((special, torch.cat((by_x, by_y), dim=-1).to(x.dtype)), dim=-2)


@isolated
def _shift_angles(array: SensorArray, width: int) -> tuple[Tensor, Tensor]:
    """Return the angles ``[N, h/2]`` by x, and by y."""
    omega = 10000.0 ** (-4 * torch.arange(width // 4).double() / width)
    x, y = _on_unit_axes(array, "visual").unbind(-1)
    omega = omega.repeat_interleave(2)
    return x[:, None] * omega, y[:, None] * omega
