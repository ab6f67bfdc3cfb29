"""ConvNeXt V2 on graph pyramids: depthwise kNN convolutions and pointwise MLPs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from fovigraph._checks import fraction, instance, one_of, positive_int, positive_ints
from fovigraph.geometry import SensorArray
from fovigraph.graph import METRICS, GraphPyramid, Plan
from fovigraph.models._registry import BackboneConfig, register
from fovigraph.models.backbone import Backbone, Block
from fovigraph.nn import GRN, DropPath, KNNConv, KNNDepthwiseConv, KNNPool, LayerNorm
from fovigraph.nn.limits import MOST_CHANNELS

EPS = 1e-6
"""Added to the variance in all layer norms."""
EXPANSION = 4
"""Channels of a block's MLP, by those of its input."""


@dataclass(frozen=True)
class ConvNeXtV2Config(BackboneConfig):
    """A ConvNeXt V2 (Woo et al. 2023): stages of depthwise blocks, each after a strided layer.

    The configurations ``fovi_convnextv2_atto`` … ``_huge`` have the published sizes.

    Attributes:
        name: ``"convnextv2"``.
        blocks: Number of blocks of every stage.
        channels: Channels of every stage.
        strides: Stride of the convolution before every stage, the first of which is the stem.
        k: Neighbours of the blocks' depthwise convolutions; everywhere at most the nodes there are,
            and the reference kernel's side is ``ceil(sqrt(k))``.
        stem_k: Neighbours of the stem's convolution.
        downsample_k: Neighbours of the convolutions before the other stages.
        drop_path: Probability that the last block's branch is left out for a sample in training
            (stochastic depth); it rises linearly from 0 at the first block.
        metric: What makes neighbours near, as :func:`~fovigraph.knn_graph` says.
    """

    name: str = "convnextv2"
    blocks: Sequence[int] = (2, 2, 6, 2)
    channels: Sequence[int] = (40, 80, 160, 320)
    strides: Sequence[int | float] = (2, 2, 2, 2)
    k: int = 49
    stem_k: int = 49
    downsample_k: int = 4
    drop_path: float = 0.0
    metric: str = "cortical"

    def check(self) -> None:
        one_of("backbone.metric", self.metric, METRICS)
        self.check_lists("blocks", "channels")
        self.check_strides("blocks")
        positive_ints("backbone.channels", self.channels, MOST_CHANNELS)
        for name in ("k", "stem_k", "downsample_k"):
            positive_int(f"backbone.{name}", getattr(self, name))
        if fraction("backbone.drop_path", self.drop_path) == 1:
            raise ValueError("backbone.drop_path must be below 1, got 1")


class Downsampling(Block):
    """The strided convolution before a stage, with a norm of the channels.

    Args:
        plan: The plan of the pyramid, which the block adds its step to.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        k: Neighbours.
        stride: Stride.
        norm_first: Whether the norm is before the convolution; in the stem it is after it.
    """

    def __init__(
        self,
        plan: Plan,
        in_channels: int,
        out_channels: int,
        k: int,
        stride: float,
        *,
        norm_first: bool = True,
    ):
        super().__init__()
        self.runs_on["conv"] = step = plan.conv(k=k, stride=stride)
        self.norm_first = norm_first
        self.norm = LayerNorm("channels", in_channels if norm_first else out_channels, eps=EPS)
        assert step.kernel_size is not None  # every convolution has one
        self.conv = KNNConv(in_channels, out_channels, step.kernel_size)

    def forward(
        self, x: Float[Tensor, "*batch N C"], pyramid: GraphPyramid
    ) -> Float[Tensor, "*batch M D"]:
        """Map ``[*, N, in_channels]`` to ``[*, M, out_channels]``."""
        if self.norm_first:
            return self.run("conv", self.norm(x), pyramid)
        return self.norm(self.run("conv", x, pyramid))  # type: ignore[no-any-return]


class ConvNeXtV2Block(Block):
    """A depthwise convolution and an MLP of every node, whose output is added to the input.

    Args:
        plan: The plan of the pyramid, which the block adds its step to.
        channels: Channels of input and output.
        k: Neighbours of the convolution.
        drop_path: Probability that the branch is left out for a sample in training.
    """

    def __init__(self, plan: Plan, channels: int, k: int, drop_path: float = 0.0):
        super().__init__()
        self.runs_on["depthwise"] = step = plan.conv(k=k)
        assert step.kernel_size is not None  # every convolution has one
        wide = EXPANSION * channels
        self.depthwise = KNNDepthwiseConv(channels, step.kernel_size)
        self.norm = LayerNorm("channels", channels, eps=EPS)
        self.expand = nn.Linear(channels, wide)
        self.activation = nn.GELU()
        self.grn = GRN(wide, step.num_dst, mask=plan.levels[-1].mask)
        self.project = nn.Linear(wide, channels)
        self.drop_path = DropPath(drop_path)

    def forward(
        self, x: Float[Tensor, "*batch N C"], pyramid: GraphPyramid
    ) -> Float[Tensor, "*batch N C"]:
        """Map ``[*, N, channels]`` to the same shape."""
        y = self.expand(self.norm(self.run("depthwise", x, pyramid)))
        y = self.project(self.grn(self.activation(y)))
        return x + self.drop_path(y)  # type: ignore[no-any-return]


class MeanBlock(Block):
    """The mean over all nodes, on a level of a single node, and a norm of the channels.

    Args:
        plan: The plan of the pyramid, which the block adds its step to.
        channels: Channels.
    """

    def __init__(self, plan: Plan, channels: int):
        super().__init__()
        self.runs_on["pool"] = plan.pool("mean", k=plan.num_nodes, side=1)
        self.pool = KNNPool("mean")
        self.norm = LayerNorm("channels", channels, eps=EPS)

    def forward(
        self, x: Float[Tensor, "*batch N C"], pyramid: GraphPyramid
    ) -> Float[Tensor, "*batch 1 C"]:
        """Map ``[*, N, channels]`` to ``[*, 1, channels]``."""
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
        >>> config = ConvNeXtV2Config(blocks=[1, 1], channels=[8, 16], strides=[2, 2])
        >>> net = fg.models.KNNConvNeXtV2(retina, config)
        >>> net(torch.rand(2, len(retina), 3)).shape
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
        layers: list[Block] = []
        total = sum(config.blocks)
        rates = (config.drop_path * index / max(1, total - 1) for index in range(total))
        width, k = in_channels, config.stem_k
        for count, channels, stride in zip(
            config.blocks, config.channels, config.strides, strict=True
        ):
            layers.append(Downsampling(plan, width, channels, k, stride, norm_first=bool(layers)))
            layers += [ConvNeXtV2Block(plan, channels, config.k, next(rates)) for _ in range(count)]
            width, k = channels, config.downsample_k
        layers.append(MeanBlock(plan, width))
        self.assemble(
            layers,
            plan,
            in_channels=in_channels,
            out_channels=width,
            num_classes=num_classes,
        )
        self.apply(_draw)

    @classmethod
    def from_config(
        cls, config: ConvNeXtV2Config, retina: SensorArray, in_channels: int = 3
    ) -> KNNConvNeXtV2:
        """Build the backbone that a configuration describes on a retina."""
        return cls(retina, config, in_channels)

    def input_weight(self) -> str:
        """The stem's weight."""
        return "layers.0.conv.weight"


def _draw(module: nn.Module) -> None:
    """Draw the weights of linear maps and depthwise convolutions, as ConvNeXts have them."""
    if isinstance(module, (nn.Linear, KNNDepthwiseConv)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
