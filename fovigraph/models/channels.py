"""Networks for images of another number of channels than they were trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fovigraph.models.config import FoviConfig
from fovigraph.models.wrapped import unwrapped

if TYPE_CHECKING:
    from fovigraph.models.fovinet import FoviNet

Weights = dict[str, Tensor]


def with_channels(config: FoviConfig, channels: int) -> FoviConfig:
    """Return a configuration for images of so many channels.

    Where that is another number than before, every channel is normalised by the means over channels
    of ``retina.mean`` and ``retina.std``.

    Raises:
        ValueError: If the retina's colours fade, and there are not three channels.
    """
    retina = config.retina
    if channels == retina.channels:
        return config
    mean, std = (
        None if values is None else [sum(values) / len(values)] * channels
        for values in (retina.mean, retina.std)
    )
    return replace(config, retina=replace(retina, channels=channels, mean=mean, std=std))


def input_adapter(net: FoviNet) -> Callable[[Weights], Weights]:
    """Return what adapts weights for other channels to those of a network.

    The first layer's weights are summed over the channels for one channel, which for grey images
    leaves its output as it was; otherwise repeated, and scaled so that their sum stays.

    Raises:
        ValueError: If the backbone's first layer cannot be adapted.
    """
    backbone = unwrapped(net.backbone)
    weight = backbone.input_weight()  # type: ignore[operator]  # a Backbone's
    name, channels = f"backbone.{weight}", net.config.retina.channels
    if weight is None:
        raise ValueError(
            f"in_channels must be the number of channels that the network was trained on, as its "
            f"{net.config.backbone.name} has no first layer to adapt, got {channels}"
        )

    def adapt(weights: Weights) -> Weights:
        if name not in weights:
            return weights  # refused by name when they are loaded
        return {**weights, name: _adapted(weights[name], channels)}

    return adapt


def _adapted(weight: Tensor, channels: int) -> Tensor:
    """Return a weight ``[…, C, D]`` for so many channels."""
    trained = weight.shape[-2]
    weight = weight.to(torch.promote_types(weight.dtype, torch.float32))  # sums are not of halves
    if channels == 1:
        return weight.sum(-2, keepdim=True)
    copies = -(-channels // trained)
    repeated = weight.repeat(*[1] * (weight.dim() - 2), copies, 1)
    return repeated[..., :channels, :] * (trained / channels)
