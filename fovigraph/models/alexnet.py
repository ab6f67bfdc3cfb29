"""AlexNet on a graph pyramid: kNN convolutions, some of them followed by a pool."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from numbers import Integral
from typing import Any

from torch import Tensor, nn

from fovigraph._checks import (
    instance,
    one_of,
    positive_float,
    positive_int,
    positive_ints,
    shown,
)
from fovigraph.config import AlexNetConfig
from fovigraph.geometry import SensorArray
from fovigraph.graph import GraphPyramid, KNNGraph, Stage
from fovigraph.models._registry import register
from fovigraph.models.backbone import Backbone
from fovigraph.nn import POOL_MODES, KNNConv, KNNPool, KNNSeparableConv, make_norm
from fovigraph.nn.knn_conv import KNNDepthwiseConv
from fovigraph.nn.limits import check_weights

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


class KNNAlexNetBlock(nn.Module):
    """Convolution, normalisation, ReLU and, if given a mode, a pool.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the convolution's reference kernel.
        num_nodes: Nodes of the level that the convolution leads to (some norms need it).
        pool: Mode of the pool; ``None`` for no pool.
        norm: Name of the normalisation (:func:`fovigraph.nn.make_norm`).
        conv: ``"full"``, ``"depthwise"`` or ``"depthwise_separable"``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        num_nodes: int,
        *,
        pool: str | None = None,
        norm: str = "batch",
        conv: str = "full",
    ):
        super().__init__()
        positive_int("num_nodes", num_nodes)
        self.conv = CONVS[one_of("conv", conv, CONVS)](in_channels, out_channels, kernel_size)
        self.norm = make_norm(norm, out_channels, num_nodes)
        self.activation = nn.ReLU()
        self.pool = None if pool is None else KNNPool(pool)

    def forward(
        self, x: Tensor, conv_graph: KNNGraph, pool_graph: KNNGraph | None = None
    ) -> Tensor:
        """Map ``[*, N, in_channels]`` to ``[*, M, out_channels]``; a pool needs its own graph."""
        if (self.pool is None) != (pool_graph is None):
            raise ValueError(
                "pool_graph must be given to a block with a pool and to no other, "
                f"got {pool_graph} for pool={self.pool}"
            )
        x = self.activation(self.norm(self.conv(x, conv_graph)))
        return x if self.pool is None else self.pool(x, pool_graph)


@register("alexnet", AlexNetConfig)
class KNNAlexNet(Backbone):
    """A chain of :class:`KNNAlexNetBlock` over a pyramid, and optionally a linear classifier.

    Every convolution of the pyramid starts a block and takes a pool that follows it; any further
    pool stands alone (the last mean pool). :meth:`stages` gives the steps of such a pyramid.

    Args:
        pyramid: The levels and graphs.
        channels: Output channels of every convolution.
        in_channels: Channels of the retina's samples.
        norm: Name of the normalisation.
        conv: ``"full"``, ``"depthwise"`` or ``"depthwise_separable"``.
        num_classes: Classes of a linear classifier on all features of the last level; ``None`` for
            no classifier.

    Attributes:
        out_channels: Channels of the last level.
        num_features: Nodes times channels of the last level.

    Raises:
        ValueError, TypeError: If ``channels`` does not fit the pyramid, or a name is unknown.
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
        kinds = [stage.kind for stage in instance("pyramid", pyramid, GraphPyramid).stages]
        channels = positive_ints("channels", channels)
        if kinds[:1] != ["conv"]:
            raise ValueError(f"pyramid must start with a convolution, got {kinds}")
        if len(channels) != kinds.count("conv"):
            raise ValueError(
                f"channels must have one entry for each of the pyramid's {kinds.count('conv')} "
                f"convolutions, got {channels}"
            )
        if num_classes is not None:
            positive_int("num_classes", num_classes)
        self.pyramid = pyramid
        self.in_channels = positive_int("in_channels", in_channels)
        self.out_channels = channels[-1]
        self.num_features = len(pyramid.levels[-1]) * self.out_channels

        if num_classes is not None:
            check_weights(num_features=self.num_features, num_classes=num_classes)
        layers: list[nn.Module] = []
        self._steps: list[range] = []  # which of the pyramid's graphs each layer uses
        widths, step = iter(channels), 0
        while step < len(kinds):
            if kinds[step] == "pool":
                layers.append(KNNPool(pyramid.stages[step].mode))
                self._steps.append(range(step, step + 1))
                step += 1
                continue
            out_channels, pooled = next(widths), kinds[step + 1 : step + 2] == ["pool"]
            kernel_size = pyramid.kernel_sizes[step]
            assert kernel_size is not None  # every convolution has one
            layers.append(
                KNNAlexNetBlock(
                    in_channels,
                    out_channels,
                    kernel_size,
                    len(pyramid.levels[step + 1]),
                    pool=pyramid.stages[step + 1].mode if pooled else None,
                    norm=norm,
                    conv=conv,
                )
            )
            self._steps.append(range(step, step + 1 + pooled))
            in_channels, step = out_channels, step + 1 + pooled
        self.layers = nn.ModuleList(layers)
        self.classifier = None if num_classes is None else nn.Linear(self.num_features, num_classes)

    @classmethod
    def from_config(cls, config: AlexNetConfig, retina: SensorArray) -> KNNAlexNet:
        """Build the network that a section ``backbone`` describes, on a retina."""
        stages = cls.stages(
            config.strides,
            config.k,
            config.pool_after,
            kernel_multiplier=config.kernel_multiplier,
            pool=config.pool,
            pool_k=config.pool_k,
            pool_stride=config.pool_stride,
            out_side=config.out_side,
        )
        pyramid = GraphPyramid(retina, stages, metric=config.metric)
        return cls(pyramid, list(config.channels), norm=config.norm, conv=config.conv)

    @staticmethod
    def stages(
        strides: Sequence[int],
        k: Sequence[int],
        pool_after: Collection[int] = (),
        *,
        kernel_multiplier: float = 2.0,
        pool: str = "max",
        pool_k: int = 9,
        pool_stride: int = 2,
        out_side: int | None = None,
    ) -> list[Stage]:
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
        strides, k = positive_ints("strides", strides), positive_ints("k", k)
        if len(k) != len(strides):
            raise ValueError(f"k must have as many entries as strides, {len(strides)}, got {k}")
        _check_layers("pool_after", pool_after, len(strides))
        positive_float("kernel_multiplier", kernel_multiplier)
        one_of("pool", pool, POOL_MODES)
        positive_int("pool_k", pool_k)
        positive_int("pool_stride", pool_stride)
        if out_side is not None:
            positive_int("out_side", out_side)
        steps = []
        for index, (stride, neighbours) in enumerate(zip(strides, k, strict=True)):
            size = math.ceil(kernel_multiplier * math.sqrt(neighbours))
            steps.append(Stage("conv", k=neighbours, stride=stride, kernel_size=size))
            if index in pool_after:
                steps.append(Stage("pool", k=pool_k, stride=pool_stride, mode=pool))
        if out_side is not None:
            steps.append(Stage("pool", side=out_side, mode="mean"))
        return steps

    def forward(self, x: Tensor) -> Tensor:
        """Map samples ``[*, N, in_channels]`` to features ``[*, M, out_channels]`` or to logits.

        Returns:
            The last level's features; with a classifier, logits ``[*, num_classes]``.
        """
        for layer, steps in zip(self.layers, self._steps, strict=True):
            x = layer(x, *(self.pyramid.graphs[step] for step in steps))
        return x if self.classifier is None else self.classifier(x.flatten(-2))


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
