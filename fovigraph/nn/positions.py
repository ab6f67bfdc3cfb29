"""Where the tokens of a vision transformer are: rotary embeddings of nodes of the visual field."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fovigraph._checks import flag, instance, positive_float, positive_int
from fovigraph.geometry import SensorArray
from fovigraph.geometry.fixed import FixedTensors, isolated


@isolated
def unit_positions(array: SensorArray) -> Float64[Tensor, "N 2"]:
    """Return x and y of an array's nodes, each scaled so that it goes from 0 to 1, ``[N, 2]``."""
    places = instance("array", array, SensorArray).cartesian
    low, high = places.amin(0), places.amax(0)
    return (places - low) / (high - low + 1e-8)


class SinePositions(FixedTensors):
    """Adds sines of x and cosines of y to the features of an array's nodes.

    Channel 2i gets sin(x ω) and channel 2i + 1 gets cos(y ω), with ω = 10000^(−2i / D) and x and y
    from 0 to 1 (FOVI's absolute positions).

    Args:
        array: The nodes.
        channels: Channels D, an even number.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.
    """

    wave: Tensor

    def __init__(self, array: SensorArray, channels: int):
        super().__init__()
        if positive_int("channels", channels) % 2:
            raise ValueError(f"channels must be even, got {channels}")
        self.fix(wave=self._wave(array, channels))

    @isolated
    def _wave(self, array: SensorArray, channels: int) -> Tensor:
        place = unit_positions(array)
        rate = 10_000.0 ** (-2 * torch.arange(channels // 2, dtype=torch.float64) / channels)
        wave = torch.stack(((place[:, :1] * rate).sin(), (place[:, 1:] * rate).cos()), dim=-1)
        return wave.flatten(1).float()

    def forward(self, x: Float[Tensor, "*batch N D"]) -> Float[Tensor, "*batch N D"]:
        """Add the positions to ``[*, N, D]``."""
        return x + self.wave.to(x.dtype)


class RotaryPositions(FixedTensors):
    r"""Rotary positions of an array's nodes: queries and keys turn with their place.

    The first half of a head's channels turns with x, the second with y; in each half, channels 2i
    and 2i + 1 are turned as a pair by the angle :math:`2\pi p\,\omega_i`, with p from 0 to 1 and
    :math:`\omega_i = \text{base}^{-4i/h}` for a head of h channels. So the product of a query and a
    key depends on their distance along x and y alone (Su et al. 2021; Heo et al. 2024).

    With ``shift``, it is what the ``fovi`` package computes, for its checkpoints: each channel is
    mixed with the one before it in its half, by :math:`p\,\omega_i`, which is no rotation.

    Args:
        array: The nodes.
        head_channels: Channels h of a head, a multiple of 4.
        base: Ratio of the fastest turn and what the slowest would tend to; ``None``: 100, or 10,000
            with ``shift``.
        shift: Whether to mix channels as the ``fovi`` package does.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.

    Example:
        >>> import torch, fovigraph as fg
        >>> array = fg.SensorArray.matched(8)
        >>> fg.nn.RotaryPositions(array, 16)(torch.rand(2, len(array), 3, 16)).shape
        torch.Size([2, 60, 3, 16])
    """

    cos: Tensor
    sin: Tensor

    def __init__(
        self,
        array: SensorArray,
        head_channels: int,
        base: float | None = None,
        *,
        shift: bool = False,
    ):
        super().__init__()
        if positive_int("head_channels", head_channels) % 4:
            raise ValueError(f"head_channels must be a multiple of 4, got {head_channels}")
        self.head_channels, self.shift = head_channels, flag("shift", shift)
        usual = 10_000.0 if shift else 100.0
        self.base = usual if base is None else positive_float("base", base)
        angle = self._angles(array)
        self.fix(cos=angle.cos().float(), sin=angle.sin().float())

    @isolated
    def _angles(self, array: SensorArray) -> Tensor:
        """Return the angle of every node and channel, ``[N, h]``."""
        pairs = torch.arange(self.head_channels // 4, dtype=torch.float64)
        rate = self.base ** (-4 * pairs / self.head_channels)
        turn = 1.0 if self.shift else 2 * math.pi
        angle = turn * unit_positions(array)[:, :, None] * rate  # [N, axis, pair]
        return angle.repeat_interleave(2, dim=-1).flatten(1)

    def forward(self, x: Float[Tensor, "*batch T H h"]) -> Float[Tensor, "*batch T H h"]:
        """Turn the last N of the tokens ``[*, T, heads, h]``; those before them have no place."""
        nodes = len(self.cos)
        extra, placed = x[..., : x.shape[-3] - nodes, :, :], x[..., x.shape[-3] - nodes :, :, :]
        cos, sin = (wave[:, None].to(x.dtype) for wave in (self.cos, self.sin))
        if self.shift:
            other = placed.unflatten(-1, (2, -1)).roll(1, dims=-1).flatten(-2)
        else:
            even, odd = placed.unflatten(-1, (-1, 2)).unbind(-1)
            other = torch.stack((-odd, even), dim=-1).flatten(-2)
        return torch.cat((extra, placed * cos + other * sin), dim=-3)

    def extra_repr(self) -> str:
        kind = ", shift=True" if self.shift else ""
        return f"{len(self.cos)} nodes, {self.head_channels}, base={self.base:g}{kind}"
