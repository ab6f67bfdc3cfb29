"""ConvNeXt V2 on graph pyramids: depthwise kNN convolutions and global response normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from fovigraph._checks import fraction, instance, one_of, positive_float, positive_int
from fovigraph.geometry import SensorArray
from fovigraph.graph import METRICS, GraphPyramid, Plan, Step
from fovigraph.models._registry import BackboneConfig, register
from fovigraph.models.backbone import Backbone, Block
from fovigraph.nn import GlobalResponseNorm, KNNConv, KNNDepthwiseConv, KNNPool, LayerNorm

EPS = 1e-6
"""What layer norms add to the variance."""

WIDTH_STD = 0.02
"""Standard deviation of the weights of linear and depthwise layers at first."""

EXPANSION = 4
"""How many times wider the middle of a block is."""


@dataclass(frozen=True)
class ConvNeXtV2Config(BackboneConfig):
    """A ConvNeXt V2 (Woo et al. 2023): a stem, stages of depthwise blocks, a mean over all nodes.

    Attributes:
        name: ``"convnextv2"``.
        depths: Number of blocks of every stage.
        channels: Channels of every stage.
        strides: Stride of the stem and of the downsampling before every later stage.
        k: Neighbours of the blocks' depthwise convolutions.
        stem_k: Neighbours of the stem's convolution.
        downsample_k: Neighbours of the downsampling convolutions.
        kernel_multiplier: The reference kernel's side is ``ceil(kernel_multiplier * sqrt(k))``;
            with 1, k is at most the nodes of the level below.
        drop_path: Probability, in training, that the last block's branch is left out of an image;
            it rises linearly from 0 at the first block.
        metric: What makes neighbours near, as :func:`~fovigraph.knn_graph` says.
    """

    name: str = "convnextv2"
    depths: Sequence[int] = (2, 2, 6, 2)
    channels: Sequence[int] = (40, 80, 160, 320)
    strides: Sequence[int] = (2, 2, 2, 2)
    k: int = 49
    stem_k: int = 49
    downsample_k: int = 4
    kernel_multiplier: float = 1.0
    drop_path: float = 0.0
    metric: str = "cortical"

    def check(self) -> None:
        self.check_lists("depths", "channels", "strides")
        for name in ("k", "stem_k", "downsample_k"):
            positive_int(f"backbone.{name}", getattr(self, name))
        positive_float("backbone.kernel_multiplier", self.kernel_multiplier)
        if fraction("backbone.drop_path", self.drop_path) == 1:
            raise ValueError("backbone.drop_path must be below 1, got 1")
        one_of("backbone.metric", self.metric, METRICS)


def _conv_step(plan: Plan, config: ConvNeXtV2Config, k: int, stride: int) -> Any:
    """Add a convolution's step to a plan."""
    reached = min(k, plan.num_nodes) if config.kernel_multiplier == 1 else k
    size = math.ceil(config.kernel_multiplier * math.sqrt(reached))
    return plan.conv(k=k, stride=stride, kernel_size=size)


class Stem(Block):
    """A strided convolution and a layer norm."""

    def __init__(self, plan: Plan, in_channels: int, config: ConvNeXtV2Config):
        super().__init__()
        step = _conv_step(plan, config, config.stem_k, config.strides[0])
        self.runs_on["conv"] = step
        self.conv = KNNConv(in_channels, config.channels[0], step.kernel_size)
        self.norm = LayerNorm("channels", config.channels[0], eps=EPS)

    def forward(
        self, x: Float[Tensor, "*batch N C"], pyramid: GraphPyramid
    ) -> Float[Tensor, "*batch M D"]:
        return self.norm(self.run("conv", x, pyramid))  # type: ignore[no-any-return]


class Downsampling(Block):
    """A layer norm and a strided convolution."""

    def __init__(
        self, plan: Plan, channels: int, out_channels: int, stride: int, config: ConvNeXtV2Config
    ):
        super().__init__()
        step = _conv_step(plan, config, config.downsample_k, stride)
        self.runs_on["conv"] = step
        self.norm = LayerNorm("channels", channels, eps=EPS)
        self.conv = KNNConv(channels, out_channels, step.kernel_size)

    def forward(
        self, x: Float[Tensor, "*batch N C"], pyramid: GraphPyramid
    ) -> Float[Tensor, "*batch M D"]:
        return self.run("conv", self.norm(x), pyramid)


class ConvNeXtV2Block(Block):
    """A depthwise convolution and a two-layer perceptron of every node, added to the input.

    Args:
        plan: The plan of the pyramid, which the block adds its step to.
        channels: Channels of the input and of the output.
        config: The network's configuration.
        drop_path: Probability that the branch is left out of an image in training.
    """

    def __init__(self, plan: Plan, channels: int, config: ConvNeXtV2Config, drop_path: float = 0.0):
        super().__init__()
        step = _conv_step(plan, config, config.k, 1)
        self.runs_on["depthwise"] = step
        self.depthwise = KNNDepthwiseConv(channels, step.kernel_size)
        self.norm = LayerNorm("channels", channels, eps=EPS)
        self.expand = nn.Linear(channels, EXPANSION * channels)
        self.response = GlobalResponseNorm(EXPANSION * channels)
        self.reduce = nn.Linear(EXPANSION * channels, channels)
        self.drop_path = drop_path
        for layer in (self.depthwise, self.expand, self.reduce):
            nn.init.trunc_normal_(layer.weight, std=WIDTH_STD)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(
        self, x: Float[Tensor, "*batch N C"], pyramid: GraphPyramid
    ) -> Float[Tensor, "*batch N C"]:
        y = self.norm(self.run("depthwise", x, pyramid))
        y = self.reduce(self.response(functional.gelu(self.expand(y))))
        return x + self._kept(y)

    def _kept(self, y: Tensor) -> Tensor:
        """Leave images out at random in training; the others grow, so that the mean stays."""
        if not (self.training and self.drop_path):
            return y
        keep = 1 - self.drop_path
        images = y.new_empty(*y.shape[:-2], 1, 1).bernoulli_(keep)
        return y * images / keep

    def extra_repr(self) -> str:
        return f"drop_path={self.drop_path:g}" if self.drop_path else ""


class Summary(Block):
    """The mean over all nodes, and a layer norm."""

    def __init__(self, plan: Plan, channels: int):
        super().__init__()
        step = Step("pool", k=plan.num_nodes, side=1, mode="mean")
        self.runs_on["pool"] = plan.add(step)
        self.pool = KNNPool("mean")
        self.norm = LayerNorm("channels", channels, eps=EPS)

    def forward(
        self, x: Float[Tensor, "*batch N C"], pyramid: GraphPyramid
    ) -> Float[Tensor, "*batch 1 C"]:
        return self.norm(self.run("pool", x, pyramid))  # type: ignore[no-any-return]


@register("convnextv2", ConvNeXtV2Config)
class KNNConvNeXtV2(Backbone):
    """A ConvNeXt V2 on a pyramid (Woo et al. 2023; FOVI, Blauch, Alvarez & Konkle 2026).

    Args:
        retina: The lowest level; or a ready pyramid, which the configuration must fit.
        config: The configuration.
        in_channels: Channels of the retina's samples.
        num_classes: Classes of a linear classifier; ``None`` for no classifier.

    Raises:
        ValueError, TypeError: If the configuration does not fit the retina or the pyramid, or an
            argument is of another type.

    Example:
        >>> import torch, fovigraph as fg
        >>> from fovigraph.models.convnext import ConvNeXtV2Config
        >>> retina = fg.SensorArray.matched(32)
        >>> config = ConvNeXtV2Config(depths=[1, 1], channels=[8, 16], strides=[2, 2])
        >>> fg.models.KNNConvNeXtV2(retina, config)(torch.rand(2, len(retina), 3)).shape
        torch.Size([2, 1, 16])
    """

    def __init__(
        self,
        retina: SensorArray | GraphPyramid,
        config: ConvNeXtV2Config,
        in_channels: int = 3,
        num_classes: int | None = None,
    ):
        super().__init__()
        instance("config", config, ConvNeXtV2Config)
        positive_int("in_channels", in_channels)
        plan = Plan(retina, config.metric)
        last = max(1, sum(config.depths) - 1)
        rates = (config.drop_path * index / last for index in count())
        layers: list[Block] = []
        for stage, (depth, width) in enumerate(zip(config.depths, config.channels, strict=True)):
            if stage == 0:
                layers.append(Stem(plan, in_channels, config))
            else:
                before, stride = config.channels[stage - 1], config.strides[stage]
                layers.append(Downsampling(plan, before, width, stride, config))
            layers += [ConvNeXtV2Block(plan, width, config, next(rates)) for _ in range(depth)]
        layers.append(Summary(plan, width))
        self.assemble(
            layers, plan, in_channels=in_channels, out_channels=width, num_classes=num_classes
        )

    @classmethod
    def from_config(
        cls, config: ConvNeXtV2Config, retina: SensorArray, in_channels: int = 3
    ) -> KNNConvNeXtV2:
        """Build the backbone that a configuration describes on a retina."""
        return cls(retina, config, in_channels)

    def input_weight(self) -> str:
        """The stem's weight."""
        return "layers.0.conv.weight"
