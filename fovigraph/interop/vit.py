"""Vision transformers: upstream's ``fovi_vit_…`` (before 2.0 ``saccadenet_knnvit_…``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from fovigraph._checks import shown
from fovigraph.config import ConfigError
from fovigraph.graph import Connection
from fovigraph.interop.family import (
    CONVOLUTIONAL,
    METRICS,
    UpstreamFamily,
    register_upstream,
)
from fovigraph.interop.upstream_config import UpstreamConfig, only, reverse
from fovigraph.interop.weights import Link, kernel_link
from fovigraph.models import Backbone
from fovigraph.models.vit import ViTConfig

SIZES: dict[str, tuple[int, int] | None] = {
    "fovi_vit_custom": None,
    "fovi_vit_tiny": (192, 3),
    "fovi_vit_small": (384, 6),
    "fovi_vit_base": (768, 12),
}
"""``model.arch`` → our ``backbone.channels`` and ``.heads``; ``None``: keys of their own."""

SIZES |= {name.replace("fovi_vit", "saccadenet_knnvit"): size for name, size in SIZES.items()}

POSITIONS = {"rope": "shift", "absolute": "sinusoidal"}
"""``model.vit.pos_emb_type`` → our ``backbone.positions``."""

AGGREGATIONS: dict[Any, str] = {
    "cls_token": "class",
    "avg_pool": "mean",
    "flatten": "tokens",
    "none": "tokens",
    None: "tokens",
}
"""``model.vit.aggregation`` → our ``backbone.aggregation``."""

FIXED: dict[str, Any] = {
    "patches": "knn",
    "fixed_k": False,
    "inset": False,
    "position_space": "visual",
    "register_tokens": 0,
    "attention_k": None,
}
"""Our keys that have one value in all of upstream's vision transformers."""

BLOCK = {
    "norm1": "norm1",
    "attention.qkv": "attn.qkv",
    "attention.proj": "attn.proj",
    "norm2": "norm2",
    "mlp.0": "mlp.0",
    "mlp.3": "mlp.3",
}
"""Our names of a block's layers → upstream's."""


@register_upstream("vit")
class UpstreamViT(UpstreamFamily[ViTConfig]):
    """The mapping of our ``KNNViT`` and upstream's."""

    names = tuple(SIZES)
    irrelevant = (
        *CONVOLUTIONAL,
        "model.vit.attn_backend",  # how, not what
        "model.vit.embed_dim",  # of the custom size
        "model.vit.new_parameterization",  # DINOv3's
        "model.vit.num_heads",
        "model.vit.partitioning_patches",  # DINOv3's
        "model.vit.position_coordinate_space",  # DINOv3's
    )

    def read_config(self, theirs: UpstreamConfig, retina: Mapping[str, Any]) -> dict[str, Any]:
        """Return our section ``backbone``."""
        size = theirs.choice("model.arch", SIZES)
        if size is None:
            size = (theirs.whole("model.vit.embed_dim"), theirs.whole("model.vit.num_heads"))
        flag = theirs.get("model.arch_flag", "") or ""
        if flag:
            theirs.fail("model.arch_flag", f"must be '' for a vision transformer, got {flag!r}")
        outputs = theirs.get("model.vit.num_outputs", 0)
        if outputs not in (0, None):
            theirs.fail(
                "model.vit.num_outputs",
                f"must be 0, got {shown(outputs)}: the classifier is the network's head here",
            )
        side = theirs.get("model.vit.ref_frame_side_length", None)
        return {
            "name": "vit",
            **FIXED,
            "channels": size[0],
            "heads": size[1],
            "blocks": theirs.whole("model.vit.num_layers"),
            "mlp_ratio": theirs.number("model.vit.mlp_ratio"),
            "dropout": theirs.number("model.vit.dropout", 0.0),
            "patch_size": theirs.number("model.vit.patch_size"),
            "overlap": theirs.number("model.vit.patch_overlap_factor"),
            "at_least": not theirs.flag("model.vit.force_patches_less_than_matched"),
            "kernel_size": None
            if side is None
            else theirs.whole("model.vit.ref_frame_side_length"),
            "positions": theirs.choice("model.vit.pos_emb_type", POSITIONS),
            "aggregation": theirs.choice("model.vit.aggregation", AGGREGATIONS, "cls_token"),
            "metric": theirs.choice("saccades.sample_cortex", METRICS),
        }

    def write_config(self, ours: ViTConfig) -> dict[str, Any]:
        """Return upstream's keys, dotted."""
        for key, value in FIXED.items():
            only(f"backbone.{key}", getattr(ours, key), value)
        if ours.positions not in POSITIONS.values():
            raise ConfigError(
                "backbone.positions must be 'shift' or 'sinusoidal' to be written for upstream, "
                f"which has no others, got {ours.positions!r}"
            )
        size = (ours.channels, ours.heads)
        whole = int(ours.patch_size) if ours.patch_size == int(ours.patch_size) else ours.patch_size
        named = next((name for name, known in SIZES.items() if known == size), "fovi_vit_custom")
        return {
            "model.arch": named,
            "model.arch_flag": "",
            "model.norm": "batch",
            "model.vit.embed_dim": ours.channels,
            "model.vit.num_heads": ours.heads,
            "model.vit.num_layers": ours.blocks,
            "model.vit.mlp_ratio": ours.mlp_ratio,
            "model.vit.dropout": ours.dropout,
            "model.vit.num_outputs": 0,
            "model.vit.patch_size": whole,
            "model.vit.patch_overlap_factor": ours.overlap,
            "model.vit.force_patches_less_than_matched": int(not ours.at_least),
            "model.vit.ref_frame_side_length": ours.kernel_size,
            "model.vit.pos_emb_type": reverse(POSITIONS, "backbone.positions", ours.positions),
            "model.vit.attn_backend": "standard",
            "model.vit.aggregation": reverse(
                AGGREGATIONS, "backbone.aggregation", ours.aggregation
            ),
            "saccades.sample_cortex": reverse(METRICS, "backbone.metric", ours.metric),
        }

    def links(self, backbone: Backbone, ours: ViTConfig) -> Iterable[Link]:
        """Return the pairs of the tensors of layers, in upstream's order."""
        here, there = "backbone.layers", "network.backbone"
        yield Link(
            f"{here}.0.class_token",
            f"{there}.cls_token",
            to_ours=lambda token: token.squeeze(0),
            to_theirs=lambda token: token.unsqueeze(0),
        )
        patches = backbone.layers[0].conv
        yield kernel_link(
            f"{here}.0.conv.weight", f"{there}.patch_embed.weight", patches.in_channels
        )
        if ours.positions == "sinusoidal":
            yield Link(f"{here}.0.positions.encoding", f"{there}.pos_encoding.pos_encoding")
        for index, block in enumerate(list(backbone.layers)[1:]):
            own, other = f"{here}.{index + 1}", f"{there}.blocks.{index}"
            for name, theirs in BLOCK.items():
                layer: nn.Module = block.get_submodule(name)
                for part in layer.state_dict():
                    yield Link(f"{own}.{name}.{part}", f"{other}.{theirs}.{part}")
                if name == "norm1" and ours.positions == "shift":
                    for part in ("cos_x", "sin_x", "cos_y", "sin_y"):
                        yield Link(f"{own}.positions.{part}", f"{other}.attn.rope.{part}_emb")
        for part in ("weight", "bias"):
            yield Link(f"backbone.norm.{part}", f"{there}.norm.{part}")

    def rows(self, backbone: Backbone) -> int:
        """Return 1: upstream flattens tokens as we do, token by token."""
        return 1

    def connections(self, backbone: Backbone, ours: ViTConfig) -> dict[str, Connection]:
        """Return where upstream's patch embedding runs."""
        return {"backbone.patch_embed": backbone.layers[0].runs_on["conv"]}
