"""Vision transformers whose patches are neighbourhoods on the cortex."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fovigraph._checks import (
    flag,
    fraction,
    instance,
    one_of,
    positive_float,
    positive_int,
    whole_number,
)
from fovigraph.geometry import SensorArray
from fovigraph.graph import METRICS, Connection, GraphPyramid, Plan, Step, covering_k
from fovigraph.models._registry import BackboneConfig, register
from fovigraph.models.backbone import Backbone, Block, Intermediate
from fovigraph.nn import KNNConv, NodeAttention, RotaryPositions, SinePositions
from fovigraph.nn.limits import MOST_CHANNELS

PATCHES = ("overlapping", "covering")
POSITIONS = ("rotary", "rotary_shift", "absolute", "learned", "none")
AGGREGATIONS = ("class_token", "mean", "tokens")
WEIGHT_STD = 0.02
"""Standard deviation of the weights of linear layers and tokens at first."""


@dataclass(frozen=True)
class ViTConfig(BackboneConfig):
    """A vision transformer (Dosovitskiy et al. 2021) on patches of kNN neighbourhoods.

    Attributes:
        name: ``"vit"``.
        patch_size: Side of a patch, in pixels of an image of the retina's ``side``: there are at
            least as many patches as a square image has.
        patches: ``"overlapping"``: a patch has so many neighbours that patches overlap by
            ``patch_overlap``; ``"covering"``: as few as leave no sample out
            (:func:`~fovigraph.graph.covering_k`).
        patch_overlap: How much longer than without overlap the side of a patch is.
        kernel_size: Side of the patches' reference kernel; ``None``: ``ceil(sqrt(k))``.
        channels: Channels of the tokens.
        heads: Heads of the attention.
        depth: Number of blocks.
        mlp_ratio: Channels of a block's hidden layer, per channel.
        dropout: Probability, of attention weights and in the blocks' perceptrons.
        attention_k: Neighbours that a patch attends to, itself among them; ``None``: all.
        positions: ``"rotary"``; ``"rotary_shift"``, the ``fovi`` package's form of it;
            ``"absolute"`` (sines and cosines) or ``"learned"``, added to the patches; or
            ``"none"``.
        class_token: Whether a learned token is put before the patches.
        register_tokens: How many more such tokens there are, which nothing reads.
        aggregation: What is returned: the ``"class_token"``, the ``"mean"`` of all tokens, or all
            ``"tokens"``.
        metric: What makes neighbours near, as :func:`~fovigraph.knn_graph` says.
    """

    name: str = "vit"
    patch_size: float = 8.0
    patches: str = "overlapping"
    patch_overlap: float = 1.5
    kernel_size: int | None = None
    channels: int = 192
    heads: int = 3
    depth: int = 12
    mlp_ratio: float = 4.0
    dropout: float = 0.2
    attention_k: int | None = None
    positions: str = "rotary"
    class_token: bool = True
    register_tokens: int = 0
    aggregation: str = "class_token"
    metric: str = "cortical"

    def check(self) -> None:
        positive_float("backbone.patch_size", self.patch_size, least=1.0)
        one_of("backbone.patches", self.patches, PATCHES)
        one_of("backbone.positions", self.positions, POSITIONS)
        one_of("backbone.aggregation", self.aggregation, AGGREGATIONS)
        one_of("backbone.metric", self.metric, METRICS)
        for name in ("patch_overlap", "mlp_ratio"):
            positive_float(f"backbone.{name}", getattr(self, name))
        positive_int("backbone.channels", self.channels, MOST_CHANNELS)
        for name in ("heads", "depth"):
            positive_int(f"backbone.{name}", getattr(self, name))
        for name in ("kernel_size", "attention_k"):
            if getattr(self, name) is not None:
                positive_int(f"backbone.{name}", getattr(self, name))
        whole_number("backbone.register_tokens", self.register_tokens)
        fraction("backbone.dropout", self.dropout)
        flag("backbone.class_token", self.class_token)
        if self.channels % self.heads:
            raise ValueError(
                f"backbone.heads must divide backbone.channels={self.channels}, got {self.heads}"
            )
        if self.positions.startswith("rotary") and self.channels // self.heads % 4:
            raise ValueError(
                f"backbone.channels must be a multiple of 4 · backbone.heads={self.heads} for "
                f"backbone.positions={self.positions!r}, got {self.channels}"
            )
        if self.positions == "absolute" and self.channels % 2:
            raise ValueError(
                "backbone.channels must be even for backbone.positions='absolute', got "
                f"{self.channels}"
            )
        if self.aggregation == "class_token" and not self.class_token:
            raise ValueError(
                "backbone.aggregation must be 'mean' or 'tokens' without backbone.class_token, "
                "got 'class_token'"
            )
        if self.patches == "covering" and self.metric == "geodesic":
            raise ValueError(
                "backbone.metric must be 'cortical' or 'visual' for backbone.patches='covering', "
                "got 'geodesic'"
            )

    @property
    def extra(self) -> int:
        """How many tokens are no patches."""
        return int(self.class_token) + self.register_tokens


class PatchEmbedding(Block):
    """A convolution from the retina to the patches; then positions that are added, and tokens.

    Args:
        plan: The plan of the pyramid, which the block adds its step to.
        in_channels: Channels of the samples.
        config: The network's configuration.

    Raises:
        ValueError: If the retina is not matched to a side, or a patch is larger than that.
    """

    def __init__(self, plan: Plan, in_channels: int, config: ViTConfig):
        super().__init__()
        retina, width = plan.levels[0], config.channels
        step = _patch_step(retina, config)
        self.runs_on["conv"] = plan.add(step)
        assert self.runs_on["conv"].kernel_size is not None
        size = self.runs_on["conv"].kernel_size
        self.conv = KNNConv(in_channels, width, size, bias=False)
        patches = plan.levels[-1]
        self.waves = SinePositions(patches, width) if config.positions == "absolute" else None
        self.position: nn.Parameter | None = None
        if config.positions == "learned":
            self.position = nn.Parameter(torch.empty(len(patches), width))
            nn.init.trunc_normal_(self.position, std=WEIGHT_STD)
        self.tokens: nn.Parameter | None = None
        if config.extra:
            self.tokens = nn.Parameter(torch.empty(config.extra, width))
            nn.init.trunc_normal_(self.tokens, std=WEIGHT_STD)

    def forward(
        self, x: Float[Tensor, "*batch N C"], pyramid: GraphPyramid
    ) -> Float[Tensor, "*batch T D"]:
        """Map samples ``[*, N, C]`` to tokens, those that are no patches first."""
        x = self.run("conv", x, pyramid)
        if self.waves is not None:
            x = self.waves(x)
        if self.position is not None:
            x = x + self.position.to(x.dtype)
        if self.tokens is None:
            return x
        tokens = self.tokens.to(x.dtype).expand(*x.shape[:-2], *self.tokens.shape)
        return torch.cat((tokens, x), dim=-2)


def _patch_step(retina: SensorArray, config: ViTConfig) -> Step:
    """Return the step from a retina to its patches."""
    if retina.side is None:
        raise ValueError(f"retina must be matched to a side for patches, got {retina}")
    side = int(retina.side // config.patch_size)
    if side < 1:
        raise ValueError(
            f"backbone.patch_size must be at most the retina's side of {retina.side} pixels, "
            f"got {config.patch_size:g}"
        )
    patches = retina.with_side(side, at_least=True)
    if config.patches == "covering":
        k = covering_k(retina, patches, config.metric)
    else:
        k = int((config.patch_size * side * config.patch_overlap) ** 2 / len(patches))
    k = min(max(1, k), len(retina))
    size = math.ceil(math.sqrt(k)) if config.kernel_size is None else config.kernel_size
    return Step("conv", k=k, side=side, at_least=True, kernel_size=size)


class TransformerBlock(Block):
    """Attention and a perceptron, each after a layer norm and added to its input.

    Args:
        channels: Channels of the tokens.
        heads: Heads of the attention.
        mlp_ratio: Channels of the hidden layer, per channel.
        dropout: Probability, of attention weights and in the perceptron.
        extra: How many tokens at the front are no patches.
        near: The connection among the patches that attention is restricted to; ``None``: all.
        positions: What turns queries and keys, if anything does; it may be shared by blocks.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        *,
        extra: int = 0,
        near: Connection | None = None,
        positions: RotaryPositions | None = None,
    ):
        super().__init__()
        self.extra = extra
        if near is not None:
            self.runs_on["attention"] = near
        hidden = max(1, int(channels * mlp_ratio))
        self.norm1 = nn.LayerNorm(channels)
        self.attention = NodeAttention(channels, heads, dropout)
        self.norm2 = nn.LayerNorm(channels)
        expand, reduce = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.mlp = nn.Sequential(
            expand, nn.GELU(), nn.Dropout(dropout), reduce, nn.Dropout(dropout)
        )
        self.positions = positions
        for layer in (self.attention.qkv, self.attention.project, expand, reduce):
            nn.init.trunc_normal_(layer.weight, std=WEIGHT_STD)

    def forward(
        self, x: Float[Tensor, "*batch T D"], pyramid: GraphPyramid
    ) -> Float[Tensor, "*batch T D"]:
        """Map tokens to tokens."""
        near = self.runs_on.get("attention")
        graph = None if near is None else pyramid.graph(near)
        x = x + self.attention(self.norm1(x), graph, extra=self.extra, positions=self.positions)
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class Readout(Block):
    """A layer norm, and what the network returns of the tokens.

    Args:
        plan: The plan of the pyramid; but for all tokens, a level of one node is added to it.
        channels: Channels of the tokens.
        aggregation: ``"class_token"`` (the first token), ``"mean"`` or ``"tokens"``.
    """

    def __init__(self, plan: Plan, channels: int, aggregation: str):
        super().__init__()
        self.aggregation = aggregation
        if aggregation != "tokens":
            step = Step("pool", k=plan.num_nodes, side=1, mode="mean")
            self.runs_on["pool"] = plan.add(step)
        self.norm = nn.LayerNorm(channels)

    def forward(
        self, x: Float[Tensor, "*batch T D"], pyramid: GraphPyramid
    ) -> Float[Tensor, "*batch M D"]:
        """Map tokens to the features of the network."""
        x = self.norm(x)
        if self.aggregation == "class_token":
            return x[..., :1, :]
        return x.mean(dim=-2, keepdim=True) if self.aggregation == "mean" else x


@register("vit", ViTConfig)
class KNNViT(Backbone):
    """A vision transformer on foveated patches (FOVI, Blauch, Alvarez & Konkle 2026).

    Args:
        retina: The lowest level, matched to a side; or a ready pyramid, which the configuration
            must fit.
        config: The configuration.
        in_channels: Channels of the retina's samples.
        num_classes: Classes of a linear classifier; ``None`` for no classifier.

    Raises:
        ValueError, TypeError: If the configuration does not fit the retina or the pyramid, or an
            argument is of another type.

    Example:
        >>> import torch, fovigraph as fg
        >>> from fovigraph.models.vit import ViTConfig
        >>> retina = fg.SensorArray.matched(32)
        >>> net = fg.models.KNNViT(retina, ViTConfig(channels=32, heads=2, depth=2, attention_k=9))
        >>> net(torch.rand(2, len(retina), 3)).shape
        torch.Size([2, 1, 32])
    """

    def __init__(
        self,
        retina: SensorArray | GraphPyramid,
        config: ViTConfig,
        in_channels: int = 3,
        num_classes: int | None = None,
    ):
        super().__init__()
        instance("config", config, ViTConfig)
        positive_int("in_channels", in_channels)
        plan = Plan(retina, config.metric)
        layers: list[Block] = [PatchEmbedding(plan, in_channels, config)]
        patches, near, positions = plan.level, None, None
        if config.attention_k is not None:
            near = plan.between(patches, patches, config.attention_k)
        if config.positions.startswith("rotary"):
            head = config.channels // config.heads
            shift = config.positions == "rotary_shift"
            positions = RotaryPositions(plan.levels[patches], head, shift=shift)
        width, heads = config.channels, config.heads
        layers += [
            TransformerBlock(
                width,
                heads,
                config.mlp_ratio,
                config.dropout,
                extra=config.extra,
                near=near,
                positions=positions,
            )
            for _ in range(config.depth)
        ]
        layers.append(Readout(plan, width, config.aggregation))
        self.extra = config.extra
        tokens = 1 if config.aggregation != "tokens" else config.extra + plan.num_nodes
        self.assemble(layers, plan, in_channels=in_channels, out_channels=width, num_classes=None)
        self.num_features = tokens * width
        self.add_classifier(num_classes)

    @classmethod
    def from_config(cls, config: ViTConfig, retina: SensorArray, in_channels: int = 3) -> KNNViT:
        """Build the backbone that a configuration describes on a retina."""
        return cls(retina, config, in_channels)

    def _through(
        self,
        x: Tensor,
        note: Callable[[str, Intermediate], None] | None = None,
        count: int | None = None,
    ) -> Tensor:
        def note_patches(name: str, seen: Intermediate) -> None:
            assert note is not None
            nodes = len(self.pyramid.levels[seen.level])
            features = seen.features[..., seen.features.shape[-2] - nodes :, :]
            note(name, Intermediate(features, seen.level))

        return super()._through(x, None if note is None else note_patches, count)

    def features_by_level(self, x: Tensor) -> dict[int, Tensor]:
        """Return the features on the retina, the patches and the readout's level, by index."""
        found = {0: x}
        self._through(x, lambda _, seen: found.__setitem__(seen.level, seen.features))
        return found

    def input_weight(self) -> str:
        """The patch embedding's weight."""
        return "layers.0.conv.weight"
