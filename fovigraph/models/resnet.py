"""ResNets on graph pyramids: residual blocks of kNN convolutions, with strided shortcuts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from fovigraph._checks import instance, one_of, positive_float, positive_int, positive_ints
from fovigraph.geometry import SensorArray
from fovigraph.graph import METRICS, Connection, GraphPyramid, Plan, Step
from fovigraph.models._registry import BackboneConfig, register
from fovigraph.models.alexnet import KNNAlexNetBlock
from fovigraph.models.backbone import Backbone, Block, PoolBlock
from fovigraph.models.lora import adapt, check_lora
from fovigraph.nn import POOL_MODES, KNNConv, KNNSeparableConv, make_norm
from fovigraph.nn.limits import MOST_CHANNELS

CONVS = ("full", "depthwise_separable")
LORA_TARGETS = ("conv1", "conv2", "shortcut")
POOL_K = 9
"""Neighbours of the stem's pool."""


@dataclass(frozen=True)
class ResNetConfig(BackboneConfig):
    """A ResNet (He et al. 2016): a stem, four stages of residual blocks, a mean pool.

    Attributes:
        name: ``"resnet"``.
        block: ``"basic"`` (two convolutions) or ``"bottleneck"`` (three, of which the second has
            neighbours).
        blocks: Number of blocks of every stage: ``[2, 2, 2, 2]`` and ``"basic"`` is a ResNet-18,
            ``[3, 4, 6, 3]`` a ResNet-34, or with ``"bottleneck"`` a ResNet-50.
        channels: Channels of every stage; bottleneck blocks give four times as many.
        strides: Stride of every stage's first block.
        k: Neighbours of the blocks' convolutions.
        stem_channels: Channels of the stem.
        stem_k: Neighbours of its convolution.
        stem_stride: Stride of its convolution.
        stem_pool: Reduction of its pool.
        stem_pool_stride: Stride of its pool.
        kernel_multiplier: The reference kernel's side is ``ceil(kernel_multiplier * sqrt(k))``;
            with 1, k is at most the nodes of the level below. With one neighbour it is 1.
        double_kernels: Whether the sides of the reference kernels of all the blocks' convolutions
            are doubled, those of one neighbour too; only with a ``kernel_multiplier`` of 1.
        out_side: Mean pool at the end to the array matched to this side; ``None``: no such pool.
        conv: ``"full"``, or ``"depthwise_separable"`` in the blocks (basic ones).
        norm: The normalisation after every convolution.
        metric: What makes neighbours near, as :func:`~fovigraph.knn_graph` says.
        trainable: Names of parts that learn, or patterns of names, besides adapters; ``None``: all
            of them, or with adapters none.
        lora_rank: Rank of low-rank adapters (:mod:`fovigraph.models.lora`); ``None``: none.
        lora_alpha: Their factor; ``None``: the rank.
        lora_blocks: Blocks that have them, from 0 through all stages; -1: the stem. ``None``: all
            of these.
        lora_targets: Convolutions of these blocks that have them, by name: ``"conv1"``,
            ``"conv2"``, in bottlenecks ``"conv3"``, and ``"shortcut"``, where there is one.
    """

    name: str = "resnet"
    block: str = "basic"
    blocks: Sequence[int] = (2, 2, 2, 2)
    channels: Sequence[int] = (64, 128, 256, 512)
    strides: Sequence[int | float] = (1, 2, 2, 2)
    k: int = 9
    stem_channels: int = 64
    stem_k: int = 49
    stem_stride: int = 2
    stem_pool: str = "max"
    stem_pool_stride: int = 2
    kernel_multiplier: float = 2.0
    double_kernels: bool = False
    out_side: int | None = 1
    conv: str = "full"
    norm: str = "batch"
    metric: str = "cortical"
    trainable: Sequence[str] | None = None
    lora_rank: int | None = None
    lora_alpha: float | None = None
    lora_blocks: Sequence[int] | None = None
    lora_targets: Sequence[str] = LORA_TARGETS

    def check(self) -> None:
        one_of("backbone.block", self.block, BLOCKS)
        one_of("backbone.conv", self.conv, CONVS)
        one_of("backbone.stem_pool", self.stem_pool, POOL_MODES)
        one_of("backbone.metric", self.metric, METRICS)
        self.check_lists("blocks", "channels")
        self.check_strides("blocks")
        positive_ints("backbone.channels", self.channels, MOST_CHANNELS)
        for name in ("k", "stem_k", "stem_stride", "stem_pool_stride"):
            positive_int(f"backbone.{name}", getattr(self, name))
        positive_int("backbone.stem_channels", self.stem_channels, MOST_CHANNELS)
        positive_float("backbone.kernel_multiplier", self.kernel_multiplier)
        if self.double_kernels and self.kernel_multiplier != 1:
            raise ValueError(
                "backbone.double_kernels must be false unless backbone.kernel_multiplier is 1, "
                f"got {self.kernel_multiplier:g}"
            )
        if self.out_side is not None:
            positive_int("backbone.out_side", self.out_side)
        check_lora(self, sum(self.blocks))
        if self.conv != "full":
            self._check_separable()

    def _check_separable(self) -> None:
        if self.block != "basic":
            raise ValueError(
                f"backbone.conv must be 'full' with backbone.block={self.block!r}, "
                f"got {self.conv!r}"
            )
        widths = [self.stem_channels, *self.channels]
        for before, after in zip(widths, self.channels, strict=False):
            if after % before:
                raise ValueError(
                    f"backbone.channels must be multiples of the channels before them for "
                    f"backbone.conv={self.conv!r}, got {before} → {after}"
                )


def _kernel_side(config: ResNetConfig, k: int, nodes: int, *, in_block: bool) -> int:
    """Return the side of the reference kernel of a convolution over k of so many nodes."""
    if config.kernel_multiplier != 1 and k > 1:
        return math.ceil(config.kernel_multiplier * math.sqrt(k))
    factor = 2 if in_block and config.double_kernels else 1
    return factor * math.ceil(math.sqrt(min(k, nodes)))


def _make_conv(kind: str, channels: int, out_channels: int, kernel_size: int | None) -> nn.Module:
    assert kernel_size is not None  # every convolution has one
    if kind == "full":
        return KNNConv(channels, out_channels, kernel_size, bias=False)
    multiplier = out_channels // channels
    return KNNSeparableConv(channels, out_channels, kernel_size, multiplier, bias=False)


def _stem(plan: Plan, in_channels: int, config: ResNetConfig) -> KNNAlexNetBlock:
    """Return the stem, which is a block of an AlexNet: convolution, norm, ReLU and a pool."""
    size = _kernel_side(config, config.stem_k, plan.num_nodes, in_block=False)
    conv = Step("conv", k=config.stem_k, stride=config.stem_stride, kernel_size=size)
    pool = Step("pool", k=POOL_K, stride=config.stem_pool_stride, mode=config.stem_pool)
    return KNNAlexNetBlock(plan, in_channels, config.stem_channels, conv, pool, norm=config.norm)


class Layer(NamedTuple):
    """One convolution of a residual block.

    Attributes:
        k: Neighbours; ``None``: those of the node itself alone, at its own level.
        stride: Stride.
        out_channels: Channels of its output.
    """

    k: int | None
    stride: float
    out_channels: int


class ResidualBlock(Block):
    """Convolutions, each with a norm, whose output is added to the input, and a ReLU.

    The input reaches the sum unchanged, or, where the stride or the channels change, through a
    shortcut: a convolution over the nearest node, and a norm. The base class of
    :class:`BasicBlock` and :class:`Bottleneck`.

    Args:
        plan: The plan of the pyramid, which the block adds its steps to.
        in_channels: Channels of the input.
        channels: Channels of the stage.
        stride: Stride of the block.
        config: The network's configuration.

    Attributes:
        out_channels: Channels of the output.
    """

    def __init__(
        self, plan: Plan, in_channels: int, channels: int, stride: float, config: ResNetConfig
    ):
        super().__init__()
        start, width = plan.level, in_channels
        pointwise = _kernel_side(config, 1, 1, in_block=True)
        layers = self.layers(channels, stride, config.k)
        self.count = len(layers)
        for number, (k, step, out_channels) in enumerate(layers, 1):
            if k is None:
                place = plan.between(plan.level, plan.level, 1, kernel_size=pointwise)
            else:
                size = _kernel_side(config, k, plan.num_nodes, in_block=True)
                place = plan.conv(k=k, stride=step, kernel_size=size)
            self._add(plan, f"conv{number}", f"norm{number}", width, out_channels, place, config)
            if number < self.count:
                self.add_module(f"relu{number}", nn.ReLU())
            width = out_channels
        self.out_channels = width
        self.shortcut: nn.Module | None = None
        self.shortcut_norm: nn.Module | None = None
        if stride != 1 or in_channels != width:
            place = plan.between(start, plan.level, 1, kernel_size=pointwise)
            self._add(plan, "shortcut", "shortcut_norm", in_channels, width, place, config)
        self.activation = nn.ReLU()

    @staticmethod
    def layers(channels: int, stride: float, k: int) -> list[Layer]:
        """Return the convolutions of a block of these channels, stride and neighbours."""
        raise NotImplementedError

    def _add(
        self,
        plan: Plan,
        conv: str,
        norm: str,
        channels: int,
        out_channels: int,
        place: Connection,
        config: ResNetConfig,
    ) -> None:
        """Add a convolution and a norm of these names."""
        self.runs_on[conv] = place
        setattr(self, conv, _make_conv(config.conv, channels, out_channels, place.kernel_size))
        mask = plan.levels[place.dst].mask
        setattr(self, norm, make_norm(config.norm, out_channels, place.num_dst, mask))

    def forward(
        self, x: Float[Tensor, "*batch N C"], pyramid: GraphPyramid
    ) -> Float[Tensor, "*batch M D"]:
        """Map ``[*, N, in_channels]`` to ``[*, M, out_channels]``."""
        y = x
        for number in range(1, self.count + 1):
            y = getattr(self, f"norm{number}")(self.run(f"conv{number}", y, pyramid))
            if number < self.count:
                y = getattr(self, f"relu{number}")(y)
        if self.shortcut_norm is not None:
            x = self.shortcut_norm(self.run("shortcut", x, pyramid))
        return self.activation(x + y)  # type: ignore[no-any-return]


class BasicBlock(ResidualBlock):
    """Two convolutions over neighbours."""

    fusible = (("conv1", "norm1", "relu1"), ("conv2", "norm2"), ("shortcut", "shortcut_norm"))

    @staticmethod
    def layers(channels: int, stride: float, k: int) -> list[Layer]:
        return [Layer(k, stride, channels), Layer(k, 1, channels)]


class Bottleneck(ResidualBlock):
    """A convolution over neighbours between two of single nodes, which change the channels."""

    EXPANSION = 4
    fusible = (
        ("conv1", "norm1", "relu1"),
        ("conv2", "norm2", "relu2"),
        ("conv3", "norm3"),
        ("shortcut", "shortcut_norm"),
    )

    @staticmethod
    def layers(channels: int, stride: float, k: int) -> list[Layer]:
        wide = Bottleneck.EXPANSION * channels
        return [Layer(None, 1, channels), Layer(k, stride, channels), Layer(None, 1, wide)]


BLOCKS: dict[str, type[ResidualBlock]] = {"basic": BasicBlock, "bottleneck": Bottleneck}
"""Residual blocks by ``backbone.block``."""


@register("resnet", ResNetConfig)
class KNNResNet(Backbone):
    """A ResNet on a pyramid (He et al. 2016; FOVI, Blauch, Alvarez & Konkle 2026).

    Args:
        retina: The lowest level; or a ready pyramid, which the configuration must fit.
        config: The configuration.
        in_channels: Channels of the retina's samples.
        num_classes: Classes of a linear classifier on all features of the last level; ``None`` for
            no classifier.

    Raises:
        ValueError, TypeError: If the configuration does not fit the retina or the pyramid, or an
            argument is of another type.

    Example:
        >>> import torch, fovigraph as fg
        >>> from fovigraph.models.resnet import ResNetConfig
        >>> retina = fg.SensorArray.matched(32)
        >>> net = fg.models.KNNResNet(retina, ResNetConfig(blocks=[1, 1], channels=[8, 16],
        ...                                                strides=[1, 2]))
        >>> net(torch.rand(2, len(retina), 3)).shape
        torch.Size([2, 1, 16])
    """

    def __init__(
        self,
        retina: SensorArray | GraphPyramid,
        config: ResNetConfig,
        in_channels: int = 3,
        num_classes: int | None = None,
    ):
        super().__init__()
        instance("config", config, ResNetConfig)
        positive_int("in_channels", in_channels)
        plan = Plan(retina, config.metric)
        layers: list[Block] = [_stem(plan, in_channels, config)]
        width = config.stem_channels
        for count, channels, stride in zip(
            config.blocks, config.channels, config.strides, strict=True
        ):
            for index in range(count):
                step = stride if index == 0 else 1
                block = BLOCKS[config.block](plan, width, channels, step, config)
                layers.append(block)
                width = block.out_channels
        if config.out_side is not None:
            layers.append(PoolBlock(plan.add(_last_pool(plan, config.out_side)), "mean"))
        self.assemble(
            layers,
            plan,
            in_channels=in_channels,
            out_channels=width,
            num_classes=num_classes,
        )
        adapt(self, config, self._targets(config))

    def _targets(self, config: ResNetConfig) -> list[str]:
        """Return the names of the convolutions that have adapters."""
        chosen = config.lora_blocks
        places = range(-1, sum(config.blocks)) if chosen is None else chosen
        names = ["layers.0.conv"] if -1 in places else []
        for index in places:
            if index >= 0:
                block = self.layers[index + 1]
                absent = ("shortcut",) if block.shortcut is None else ()
                own = [name for name in config.lora_targets if name not in absent]
                names += [f"layers.{index + 1}.{name}" for name in own]
        return names

    @classmethod
    def from_config(
        cls, config: ResNetConfig, retina: SensorArray, in_channels: int = 3
    ) -> KNNResNet:
        """Build the backbone that a configuration describes on a retina."""
        return cls(retina, config, in_channels)

    def input_weight(self) -> str | None:
        """The stem's weight; ``None`` if an adapter takes the channels as well."""
        return "layers.0.conv.weight" if isinstance(self.layers[0].conv, KNNConv) else None


def _last_pool(plan: Plan, side: int) -> Step:
    """Return the step of the mean pool, over as many nodes as if it came from the retina."""
    retina = plan.levels[0]
    k = (2 * math.ceil(retina.resolution / retina.with_side(side).resolution)) ** 2
    return Step("pool", k=k, side=side, mode="mean")
