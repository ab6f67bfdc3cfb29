"""AlexNet on a graph pyramid: kNN convolutions, some of them followed by a pool."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from fovigraph._checks import (
    instance,
    one_of,
    positive_float,
    positive_int,
    positive_ints,
    shown,
)
from fovigraph._deprecated import warn_renamed
from fovigraph.geometry import SensorArray
from fovigraph.geometry.layout import check_stride, check_strides
from fovigraph.graph import GraphPyramid, Plan, Step
from fovigraph.models._registry import BackboneConfig, register
from fovigraph.models.backbone import Backbone, Block, PoolBlock
from fovigraph.nn import POOL_MODES, KNNConv, KNNPool, KNNSeparableConv, make_norm
from fovigraph.nn.knn_conv import KNNDepthwiseConv
from fovigraph.nn.limits import MOST_CHANNELS


@dataclass(frozen=True)
class AlexNetConfig(BackboneConfig):
    """A stack of kNN convolutions, some followed by a pool.

    Attributes:
        name: ``"alexnet"``.
        channels: Output channels of every layer.
        strides: Stride of every layer.
        k: Neighbours of every layer's convolution.
        kernel_multiplier: The reference kernel's side is ``ceil(kernel_multiplier * sqrt(k))``.
        pool_after: Layers (from 0) that a pool follows.
        pool: The reduction of these pools.
        pool_k: Their neighbours.
        pool_stride: Their stride.
        out_side: Mean pool at the end to the array matched to this side; ``None``: no such pool.
        conv: ``"full"``, ``"depthwise"`` or ``"depthwise_separable"``.
        norm: The normalisation after every convolution.
        metric: What makes neighbours near, as :func:`~fovigraph.knn_graph` says.
    """

    name: str = "alexnet"
    channels: Sequence[int] = (96, 256, 384, 384, 256)
    strides: Sequence[int | float] = (2, 1, 1, 1, 1)
    k: Sequence[int] = (121, 25, 9, 9, 9)
    kernel_multiplier: float = 2.0
    pool_after: Sequence[int] = (0, 1, 4)
    pool: str = "max"
    pool_k: int = 9
    pool_stride: int | float = 2
    out_side: int | None = 1
    conv: str = "full"
    norm: str = "batch"
    metric: str = "cortical"

    def check(self) -> None:
        layers = self.check_lists("channels", "k")
        self.check_strides("channels")
        positive_ints("backbone.channels", self.channels, MOST_CHANNELS)
        for layer in self.pool_after:
            if not 0 <= layer < layers:
                raise ValueError(
                    f"backbone.pool_after must name layers from 0 to {layers - 1}, got {layer}"
                )
        if len(set(self.pool_after)) < len(self.pool_after):
            raise ValueError(
                f"backbone.pool_after must name each layer once, got {self.pool_after}"
            )
        positive_float("backbone.kernel_multiplier", self.kernel_multiplier)
        positive_int("backbone.pool_k", self.pool_k)
        check_stride("backbone.pool_stride", self.pool_stride)
        if self.out_side is not None:
            positive_int("backbone.out_side", self.out_side)


CONVS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "full": lambda channels, out, size: KNNConv(channels, out, size, bias=False),
    "depthwise": lambda channels, out, size: _depthwise(channels, out, size),
    "depthwise_separable": lambda channels, out, size: KNNSeparableConv(
        channels, out, size, bias=False
    ),
}
"""Convolutions by name: (input channels, output channels, kernel_size) → layer without bias."""


def _depthwise(channels: int, out_channels: int, kernel_size: int) -> KNNDepthwiseConv:
    if out_channels % channels:
        raise ValueError(
            "conv='depthwise' needs output channels that are a multiple of the input channels, "
            f"got {channels} → {out_channels}"
        )
    return KNNDepthwiseConv(channels, kernel_size, out_channels // channels, bias=False)


class KNNAlexNetBlock(Block):
    """Convolution, normalisation, ReLU and, if given a step for it, a pool.

    Args:
        plan: The plan of the pyramid, which the block adds its steps to.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        conv_step: The convolution's step.
        pool_step: The pool's step; ``None`` for no pool.
        norm: Name of the normalisation (:func:`fovigraph.nn.make_norm`).
        conv: ``"full"``, ``"depthwise"`` or ``"depthwise_separable"``.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.

    Example:
        >>> import torch, fovigraph as fg
        >>> plan = fg.Plan(fg.SensorArray.matched(32))
        >>> conv, pool = fg.Step("conv", k=9), fg.Step("pool", k=9, stride=2)
        >>> block = fg.KNNAlexNetBlock(plan, 3, 8, conv, pool)
        >>> block(torch.rand(2, 964, 3), plan.build()).shape
        torch.Size([2, 230, 8])
    """

    fusible = (("conv", "norm", "activation"),)

    def __init__(
        self,
        plan: Plan,
        in_channels: int,
        out_channels: int,
        conv_step: Step,
        pool_step: Step | None = None,
        *,
        norm: str = "batch",
        conv: str = "full",
    ):
        super().__init__()
        instance("plan", plan, Plan)
        for name, step, kind in (
            ("conv_step", conv_step, "conv"),
            ("pool_step", pool_step, "pool"),
        ):
            if step is not None and instance(name, step, Step).kind != kind:
                raise ValueError(f"{name} must be a step of the kind {kind!r}, got {step}")
        make_conv = CONVS[one_of("conv", conv, CONVS)]
        self.runs_on["conv"] = place = plan.add(conv_step)
        assert place.kernel_size is not None  # every convolution has one
        self.conv = make_conv(in_channels, out_channels, place.kernel_size)
        self.norm = make_norm(norm, out_channels, place.num_dst, plan.levels[-1].mask)
        self.activation = nn.ReLU()
        if pool_step is not None:
            self.runs_on["pool"] = plan.add(pool_step)
        self.pool = None if pool_step is None else KNNPool(pool_step.mode)

    def _convolve(self, x: Tensor, pyramid: GraphPyramid) -> Tensor:
        return self.activation(self.norm(self.run("conv", x, pyramid)))  # type: ignore[no-any-return]

    def forward(
        self, x: Float[Tensor, "*batch N C"], pyramid: GraphPyramid
    ) -> Float[Tensor, "*batch M D"]:
        """Map ``[*, N, in_channels]`` to ``[*, M, out_channels]``."""
        x = self._convolve(x, pyramid)
        return x if self.pool is None else self.run("pool", x, pyramid)

    def by_level(self, x: Tensor, pyramid: GraphPyramid) -> Iterator[tuple[int | None, Tensor]]:
        """Yield what the convolution's activation gives, then what the pool gives."""
        x = self._convolve(x, pyramid)
        yield self.runs_on["conv"].dst, x
        if self.pool is not None:
            yield self.runs_on["pool"].dst, self.run("pool", x, pyramid)


@register("alexnet", AlexNetConfig)
class KNNAlexNet(Backbone):
    """A chain of :class:`KNNAlexNetBlock` over a pyramid, and optionally a linear classifier.

    Every convolution of the pyramid starts a block and takes a pool that follows it; any further
    pool stands alone (the last mean pool). :meth:`steps` gives the steps of such a pyramid.

    Args:
        pyramid: The levels and graphs.
        channels: Output channels of every convolution.
        in_channels: Channels of the retina's samples.
        norm: Name of the normalisation.
        conv: ``"full"``, ``"depthwise"`` or ``"depthwise_separable"``.
        num_classes: Classes of a linear classifier on all features of the last level; ``None`` for
            no classifier.

    Raises:
        ValueError, TypeError: If ``channels`` does not fit the pyramid, or a name is unknown.

    Example:
        >>> import torch, fovigraph as fg
        >>> steps = fg.KNNAlexNet.steps(strides=[2, 1], k=[49, 9], pool_after=[0, 1])
        >>> pyramid = fg.GraphPyramid(fg.SensorArray.matched(32), steps)
        >>> net = fg.KNNAlexNet(pyramid, channels=[8, 16], num_classes=10)
        >>> net(torch.rand(2, len(pyramid[0]), 3)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        pyramid: GraphPyramid,
        channels: Sequence[int],
        *,
        in_channels: int = 3,
        norm: str = "batch",
        conv: str = "full",
        num_classes: int | None = None,
    ):
        super().__init__()
        steps = instance("pyramid", pyramid, GraphPyramid).steps
        kinds = [step.kind for step in steps]
        channels = positive_ints("channels", channels)
        if kinds[:1] != ["conv"]:
            raise ValueError(f"pyramid must start with a convolution, got {kinds}")
        if len(channels) != kinds.count("conv"):
            raise ValueError(
                f"channels must have one entry for each of the pyramid's {kinds.count('conv')} "
                f"convolutions, got {channels}"
            )
        positive_int("in_channels", in_channels)
        plan, layers = Plan(pyramid), list[Block]()
        width, widths = in_channels, iter(channels)
        for conv_step, pool_step in _blocks(steps):
            if conv_step is None:
                assert pool_step is not None  # one of them is
                layers.append(PoolBlock(plan.add(pool_step), pool_step.mode))
                continue
            out = next(widths)
            block = KNNAlexNetBlock(plan, width, out, conv_step, pool_step, norm=norm, conv=conv)
            layers.append(block)
            width = out
        self.assemble(
            layers,
            plan,
            in_channels=in_channels,
            out_channels=width,
            num_classes=num_classes,
        )

    @classmethod
    def from_config(
        cls, config: AlexNetConfig, retina: SensorArray, in_channels: int = 3
    ) -> KNNAlexNet:
        """Build the backbone that a configuration describes on a retina."""
        steps = cls.steps(
            config.strides,
            config.k,
            config.pool_after,
            kernel_multiplier=config.kernel_multiplier,
            pool=config.pool,
            pool_k=config.pool_k,
            pool_stride=config.pool_stride,
            out_side=config.out_side,
        )
        pyramid = GraphPyramid(retina, steps, metric=config.metric)
        return cls(
            pyramid,
            list(config.channels),
            in_channels=in_channels,
            norm=config.norm,
            conv=config.conv,
        )

    @staticmethod
    def steps(
        strides: Sequence[float],
        k: Sequence[int],
        pool_after: Collection[int] = (),
        *,
        kernel_multiplier: float = 2.0,
        pool: str = "max",
        pool_k: int = 9,
        pool_stride: float = 2,
        out_side: int | None = None,
    ) -> list[Step]:
        """Return the steps of a pyramid for an AlexNet.

        Args:
            strides: Stride of every convolution.
            k: Neighbours of every convolution.
            pool_after: Convolutions, counted from 0, that a pool follows.
            kernel_multiplier: Side of the reference kernels, ``ceil(kernel_multiplier · sqrt(k))``.
            pool, pool_k, pool_stride: Mode, neighbours and stride of these pools.
            out_side: Side that a last mean pool leads to; ``None`` for no such pool.

        Raises:
            ValueError, TypeError: If an argument is not of the kind said above, ``k`` has another
                length than ``strides``, or ``pool_after`` names a convolution that is not there.
        """
        strides, k = check_strides("strides", strides), positive_ints("k", k)
        if len(k) != len(strides):
            raise ValueError(f"k must have as many entries as strides, {len(strides)}, got {k}")
        _check_layers("pool_after", pool_after, len(strides))
        positive_float("kernel_multiplier", kernel_multiplier)
        one_of("pool", pool, POOL_MODES)
        positive_int("pool_k", pool_k)
        check_stride("pool_stride", pool_stride)
        if out_side is not None:
            positive_int("out_side", out_side)
        steps = []
        for index, (stride, neighbours) in enumerate(zip(strides, k, strict=True)):
            size = math.ceil(kernel_multiplier * math.sqrt(neighbours))
            steps.append(Step("conv", k=neighbours, stride=stride, kernel_size=size))
            if index in pool_after:
                steps.append(Step("pool", k=pool_k, stride=pool_stride, mode=pool))
        if out_side is not None:
            steps.append(Step("pool", side=out_side, mode="mean"))
        return steps

    @classmethod
    def stages(cls, *args: Any, **kwargs: Any) -> list[Step]:
        """Deprecated: :meth:`steps`."""
        warn_renamed("KNNAlexNet.stages", "KNNAlexNet.steps")
        return cls.steps(*args, **kwargs)

    def input_weight(self) -> str | None:
        """The first convolution's weight, if the convolutions are full ones."""
        return "layers.0.conv.weight" if isinstance(self.layers[0].conv, KNNConv) else None


def _check_kind(name: str, step: Step, kind: str) -> None:
    if instance(name, step, Step).kind != kind:
        raise ValueError(f"{name} must be a step of the kind {kind!r}, got {step}")


def _blocks(steps: Sequence[Step]) -> list[tuple[Step | None, Step | None]]:
    """Return the convolution and the pool of every block; a pool alone follows another pool."""
    blocks: list[tuple[Step | None, Step | None]] = []
    for step in steps:
        if step.kind == "conv":
            blocks.append((step, None))
        elif blocks and blocks[-1][1] is None:
            blocks[-1] = (blocks[-1][0], step)
        else:
            blocks.append((None, step))
    return blocks


def _check_layers(name: str, values: Any, count: int) -> None:
    """Check that values are numbers of layers, counted from 0."""
    is_scalar = getattr(values, "ndim", 1) == 0  # an array without entries to go through
    if not isinstance(values, Collection) or isinstance(values, str) or is_scalar:
        raise TypeError(f"{name} must be a list of whole numbers, got {shown(values)}")
    for value in values:
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise TypeError(f"{name} must be whole numbers, got {shown(value)} among them")
        if not 0 <= int(value) < count:
            raise ValueError(
                f"{name} must name convolutions from 0 to {count - 1}, got {shown(values)}"
            )
