"""Vision transformers on foveated patches, whose attention a graph of the cortex may restrict."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fovigraph._checks import fraction, instance, one_of, positive_float, positive_int, whole_number
from fovigraph.geometry import SensorArray
from fovigraph.graph import METRICS, GraphPyramid, PatchStep, Plan
from fovigraph.graph.kernel_map import check_kernel_size
from fovigraph.models._registry import BackboneConfig, register
from fovigraph.models.backbone import Backbone, Block
from fovigraph.nn import (
    CyclicShift,
    GraphAttention,
    KNNConv,
    LearnedPosition,
    Rotary,
    SinusoidalPosition,
)
from fovigraph.nn.attention import check_heads
from fovigraph.nn.limits import MOST_CHANNELS
from fovigraph.nn.positions import SPACES

POSITIONS = ("learned", "none", "rotary", "shift", "sinusoidal")
AGGREGATIONS = ("class", "mean", "mean_patches", "patches", "tokens")


@dataclass(frozen=True)
class PatchConfig(BackboneConfig):
    """What the schemas of vision transformers say about patches.

    Attributes:
        patch_size: Side of the patches that an image of the retina's side would be cut into, pixels
            (:class:`~fovigraph.graph.PatchStep`).
        patches: Which nodes a patch has: ``"cover"``, ``"partition"`` or ``"knn"``.
        overlap: How many times wider than their distance patches are, with ``"knn"``.
        fixed_k: Whether the overlap comes from more patches instead of larger ones.
        at_least: Whether there are at least as many patches as an image would have, or at most.
        inset: Whether the outermost patches lie half a ring within the field of view.
        kernel_size: Side of the patches' reference kernel; ``None``: ``ceil(sqrt(k))``.
        position_space: Where positions are measured: ``"visual"`` or ``"cortical"``.
        metric: What makes nodes near to a patch, as :func:`~fovigraph.knn_graph` says.
    """

    patch_size: float = 8.0
    patches: str = "cover"
    overlap: float = 1.0
    fixed_k: bool = False
    at_least: bool = True
    inset: bool = True
    kernel_size: int | None = None
    position_space: str = "visual"
    metric: str = "cortical"

    def check(self) -> None:
        one_of("backbone.metric", self.metric, METRICS)
        one_of("backbone.position_space", self.position_space, SPACES)
        positive_float("backbone.patch_size", self.patch_size)
        if self.kernel_size is not None:
            check_kernel_size(self.kernel_size)
        self.patch_step()

    def patch_step(self) -> PatchStep:
        """Return the step from the retina to the patches."""
        try:
            return PatchStep(
                patch_size=float(self.patch_size),
                patches=self.patches,
                overlap=self.overlap,
                fixed_k=self.fixed_k,
                at_least=self.at_least,
                inset=self.inset,
                kernel_size=self.kernel_size,
            )
        except (TypeError, ValueError) as error:
            raise type(error)(f"backbone.{error}") from None


@dataclass(frozen=True)
class ViTConfig(PatchConfig):
    """A vision transformer (Dosovitskiy et al. 2021) on patches of the retina.

    The configurations ``fovi_vit_tiny`` and ``fovi_vit_small`` have upstream's sizes.

    Attributes:
        name: ``"vit"``.
        channels: Channels of the tokens.
        heads: Heads of the attention; they must divide ``channels``.
        blocks: Number of blocks.
        mlp_ratio: Channels of a block's MLP, by those of the tokens.
        positions: ``"rotary"`` (:class:`~fovigraph.nn.Rotary`), ``"learned"``, ``"sinusoidal"``,
            ``"shift"`` (upstream's :class:`~fovigraph.nn.CyclicShift`) or ``"none"``.
        register_tokens: Learnt tokens beside the class token (Darcet et al. 2024).
        aggregation: What becomes of the tokens at the end: ``"class"``: the class token;
            ``"mean"``: their mean; ``"mean_patches"``: the patches' mean; ``"patches"``: all
            patches; ``"tokens"``: all tokens.
        attention_k: Patches that a patch attends to, itself among them: the nearest by the metric,
            and the tokens before the patches; ``None``: all.
        dropout: Probability that a weight of attention or a channel of the MLP is zero in training.
    """

    name: str = "vit"
    channels: int = 192
    heads: int = 3
    blocks: int = 12
    mlp_ratio: float = 4.0
    positions: str = "rotary"
    register_tokens: int = 0
    aggregation: str = "class"
    attention_k: int | None = None
    dropout: float = 0.0

    def check(self) -> None:
        super().check()
        one_of("backbone.positions", self.positions, POSITIONS)
        one_of("backbone.aggregation", self.aggregation, AGGREGATIONS)
        positive_int("backbone.channels", self.channels, MOST_CHANNELS)
        check_heads(self.heads, self.channels, "backbone.heads")
        positive_int("backbone.blocks", self.blocks)
        positive_float("backbone.mlp_ratio", self.mlp_ratio)
        whole_number("backbone.register_tokens", self.register_tokens)
        fraction("backbone.dropout", self.dropout)
        if self.attention_k is not None:
            positive_int("backbone.attention_k", self.attention_k)
        wide = self.channels // self.heads
        least = {"rotary": 2, "shift": 4}.get(self.positions, 1)
        if wide % least:
            raise ValueError(
                f"backbone.channels / backbone.heads must be a multiple of {least} for "
                f"backbone.positions={self.positions!r}, got {wide}"
            )
        if self.positions == "shift" and self.position_space != "visual":
            raise ValueError(
                "backbone.position_space must be 'visual' with backbone.positions='shift', "
                f"got {self.position_space!r}"
            )


class PatchEmbedding(Block):
    """From the retina's samples to tokens: learnt ones first, then the patches.

    Args:
        plan: The plan of the pyramid, which the block adds its step to.
        in_channels: Channels of the samples.
        config: The network's configuration.
    """

    def __init__(self, plan: Plan, in_channels: int, config: ViTConfig):
        super().__init__()
        self.runs_on["conv"] = step = plan.add(config.patch_step())
        assert step.kernel_size is not None  # it is a convolution's step
        self.conv = KNNConv(in_channels, config.channels, step.kernel_size, bias=False)
        self.positions = _added_positions(plan.levels[-1], config)
        self.class_token = nn.Parameter(torch.empty(1, config.channels))
        self.register_tokens: nn.Parameter | None = None
        if config.register_tokens:
            tokens = torch.empty(config.register_tokens, config.channels)
            self.register_tokens = nn.Parameter(tokens)
        for token in self.parameters(recurse=False):
            nn.init.trunc_normal_(token, std=0.02)

    def forward(
        self, x: Float[Tensor, "*batch N C"], pyramid: GraphPyramid
    ) -> Float[Tensor, "*batch T D"]:
        """Map ``[*, N, in_channels]`` to tokens ``[*, 1 + registers + patches, channels]``."""
        patches = self.run("conv", x, pyramid)
        if self.positions is not None:
            patches = self.positions(patches)
        return with_tokens(patches, self.class_token, self.register_tokens)


def with_tokens(
    patches: Float[Tensor, "*batch N D"], *learnt: Tensor | None
) -> Float[Tensor, "*batch T D"]:
    """Put learnt tokens, those there are, before the patches."""
    tokens = torch.cat([each for each in learnt if each is not None]).to(patches.dtype)
    return torch.cat((tokens.expand(*patches.shape[:-2], *tokens.shape), patches), dim=-2)


def _added_positions(patches: SensorArray, config: ViTConfig) -> nn.Module | None:
    """Return what adds positions to the patches, if the configuration has them there."""
    if config.positions == "learned":
        return LearnedPosition(len(patches), config.channels)
    if config.positions == "sinusoidal":
        return SinusoidalPosition(patches, config.channels, config.position_space)
    return None


def _turned_positions(patches: SensorArray, config: ViTConfig) -> nn.Module | None:
    """Return what queries and keys pass, if the configuration has positions there."""
    wide = config.channels // config.heads
    if config.positions == "rotary":
        return Rotary(patches, wide, config.position_space)
    return CyclicShift(patches, wide) if config.positions == "shift" else None


class TransformerBlock(Block):
    """Attention and an MLP, each of normalised tokens and added to them.

    Args:
        plan: The plan of the pyramid, already with the patches.
        config: The network's configuration.
    """

    def __init__(self, plan: Plan, config: ViTConfig):
        super().__init__()
        if config.attention_k is not None:
            if config.attention_k > plan.num_nodes:
                raise ValueError(
                    f"attention_k must be at most {plan.num_nodes}, the number of patches, "
                    f"got {config.attention_k}"
                )
            self.runs_on["attention"] = plan.between(plan.level, plan.level, config.attention_k)
        width, hidden = config.channels, int(config.channels * config.mlp_ratio)
        self.norm1 = nn.LayerNorm(width)
        self.attention = GraphAttention(width, config.heads, dropout=config.dropout)
        self.positions = _turned_positions(plan.levels[-1], config)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(hidden, width),
            nn.Dropout(config.dropout),
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)

    def forward(
        self, x: Float[Tensor, "*batch T D"], pyramid: GraphPyramid
    ) -> Float[Tensor, "*batch T D"]:
        """Map tokens to tokens."""
        on = self.runs_on.get("attention")
        graph = None if on is None else pyramid.graph(on)
        x = x + self.attention(self.norm1(x), graph, self.positions)
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]

    @property
    def mixes_all(self) -> bool:
        """Whether all tokens attend to all."""
        return "attention" not in self.runs_on

    def reached_from(self, tokens: Tensor, pyramid: GraphPyramid, prefix: int = 0) -> Tensor:
        if tokens[:prefix].any():  # they attend to all
            return torch.ones_like(tokens)
        reached = super().reached_from(tokens, pyramid, prefix)
        reached[:prefix] = True  # all attend to them
        return reached


def aggregate(x: Tensor, how: str, prefix: int) -> Tensor:
    """Reduce tokens ``[*, T, D]`` to rows ``[*, M, D]``.

    Args:
        x: The tokens.
        how: One of :data:`AGGREGATIONS`.
        prefix: Tokens before the patches, of which the first is the class token.
    """
    if how == "class":
        return x[..., :1, :]
    x = x if how in ("mean", "tokens") else x[..., prefix:, :]
    return x.mean(dim=-2, keepdim=True) if how.startswith("mean") else x


def rows(how: str, prefix: int, patches: int) -> int:
    """Return the number of rows M that :func:`aggregate` leaves."""
    return {"patches": patches, "tokens": prefix + patches}.get(how, 1)


@register("vit", ViTConfig)
class KNNViT(Backbone):
    """A vision transformer on foveated patches (FOVI, Blauch, Alvarez & Konkle 2026).

    Args:
        retina: The lowest level; or a ready pyramid, which the configuration must fit.
        config: The configuration.
        in_channels: Channels of the retina's samples.
        num_classes: Classes of a linear classifier on the aggregated tokens; ``None`` for no
            classifier.

    Attributes:
        prefix_tokens: The class token and the register tokens, which come before the patches in the
            features of every block.

    Raises:
        ValueError, TypeError: If the configuration does not fit the retina or the pyramid, or an
            argument is of another type.

    Example:
        >>> import torch, fovigraph as fg
        >>> from fovigraph.models.vit import ViTConfig
        >>> retina = fg.SensorArray.matched(32)
        >>> net = fg.models.KNNViT(retina, ViTConfig(channels=24, blocks=2, attention_k=5))
        >>> net(torch.rand(2, len(retina), 3)).shape
        torch.Size([2, 1, 24])
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
        layers += [TransformerBlock(plan, config) for _ in range(config.blocks)]
        self.aggregation = config.aggregation
        self.prefix_tokens = 1 + config.register_tokens
        self.assemble(
            layers,
            plan,
            in_channels=in_channels,
            out_channels=config.channels,
            num_classes=num_classes,
            rows=rows(config.aggregation, self.prefix_tokens, plan.num_nodes),
        )
        self.norm = nn.LayerNorm(config.channels)

    @classmethod
    def from_config(cls, config: ViTConfig, retina: SensorArray, in_channels: int = 3) -> KNNViT:
        """Build the backbone that a configuration describes on a retina."""
        return cls(retina, config, in_channels)

    def finish(self, x: Float[Tensor, "*batch T D"]) -> Tensor:
        """Normalise and aggregate the tokens; map them to logits, if there is a classifier."""
        return super().finish(aggregate(self.norm(x), self.aggregation, self.prefix_tokens))

    def input_weight(self) -> str:
        """The patch embedding's weight."""
        return "layers.0.conv.weight"
