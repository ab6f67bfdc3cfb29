"""DINOv3: upstream's ``fovi_dinov3`` (before 2.0 ``saccadenet_dinov3``), with or without LoRA."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fovigraph._checks import shown
from fovigraph._plain import ConfigError
from fovigraph.graph import Connection
from fovigraph.interop.family import (
    CONVOLUTIONAL,
    METRICS,
    UpstreamFamily,
    register_upstream,
)
from fovigraph.interop.finetuning import Finetuning, adapted_name, conv_links
from fovigraph.interop.upstream_config import UpstreamConfig, only, reverse
from fovigraph.interop.weights import Link
from fovigraph.models import Backbone
from fovigraph.models.dinov3 import LAYOUTS, DINOv3Config

PUBLISHED = {
    "small": "vits16",
    "small_plus": "vits16plus",
    "base": "vitb16",
    "large": "vitl16",
    "huge_plus": "vith16plus",
}
"""Our ``backbone.size`` → the size in ``pretrained_model.path``, a name on the Hub."""

HUB = "facebook/dinov3-{}-pretrain-lvd1689m"
"""The names on the Hub."""

PATCHES: dict[Any, str] = {"KNN": "cover", True: "partition", False: "knn", None: "knn"}
"""``model.vit.partitioning_patches`` → our ``backbone.patches``."""

OUTPUTS = {"pooled": "class", "tokens": "tokens", "patch_tokens": "patches"}
"""``model.output_mode`` → our ``backbone.aggregation``."""

FINETUNING = Finetuning(
    norm="norm",
    norms=[f"layers.*.layer.{name}" for name in ("norm1", "norm2", "layer_scale1", "layer_scale2")],
    first="layers.0.conv",
    targets={
        **{f"{name}_proj": f"attention.{name}_proj" for name in "qkvo"},
        **{f"{name}_proj": f"mlp.{name}_proj" for name in ("up", "down", "gate")},
    },
)


@register_upstream("dinov3")
class UpstreamDINOv3(UpstreamFamily[DINOv3Config]):
    """The mapping of our ``DINOv3`` and upstream's."""

    names = ("fovi_dinov3", "saccadenet_dinov3")
    irrelevant = (
        *CONVOLUTIONAL,
        "model.arch_flag",
        "model.vit.*",  # of a vision transformer from scratch
    )

    def read_config(self, theirs: UpstreamConfig, retina: Mapping[str, Any]) -> dict[str, Any]:
        """Return our section ``backbone``."""
        key = "model.vit.position_coordinate_space"
        if theirs.get(key, None) not in (None, "cartesian"):
            theirs.fail(key, f"must be 'cartesian' or null, got {shown(theirs.get(key))}")
        patches = theirs.choice("model.vit.partitioning_patches", PATCHES, None)
        knn = patches == "knn"
        return {
            "name": "dinov3",
            **_size(theirs),
            "patch_size": theirs.number("model.vit.patch_size"),
            "patches": patches,
            "overlap": theirs.number("model.vit.patch_overlap_factor", 1.0) if knn else 1.0,
            "fixed_k": knn and theirs.flag("model.vit.new_parameterization", 0),
            "at_least": not theirs.flag("model.vit.force_patches_less_than_matched"),
            "kernel_size": theirs.whole("pretrained_model.patch_size"),
            "aggregation": theirs.choice("model.output_mode", OUTPUTS, "pooled"),
            "metric": theirs.choice("saccades.sample_cortex", METRICS),
            **FINETUNING.read(theirs),
        }

    def write_config(self, ours: DINOv3Config) -> dict[str, Any]:
        """Return upstream's keys, dotted."""
        only("backbone.inset", ours.inset, True)
        only("backbone.position_space", ours.position_space, "visual")
        if ours.options:
            raise ConfigError(
                "backbone.options must be empty to be written for upstream, which has a path in "
                f"their place, got {list(ours.options)}"
            )
        if ours.kernel_size is None:
            raise ConfigError("backbone.kernel_size must be a number to be written for upstream")
        whole = int(ours.patch_size) if ours.patch_size == int(ours.patch_size) else ours.patch_size
        return {
            "model.arch": self.names[0],
            "model.norm": "batch",
            "model.output_mode": reverse(OUTPUTS, "backbone.aggregation", ours.aggregation),
            "model.vit.patch_size": whole,
            "model.vit.partitioning_patches": reverse(PATCHES, "backbone.patches", ours.patches),
            "model.vit.patch_overlap_factor": ours.overlap,
            "model.vit.new_parameterization": int(ours.fixed_k),
            "model.vit.force_patches_less_than_matched": int(not ours.at_least),
            "model.vit.position_coordinate_space": "cartesian",
            "pretrained_model.path": HUB.format(PUBLISHED[ours.size]),
            "pretrained_model.patch_size": ours.kernel_size,
            "pretrained_model.load_weights": False,
            "pretrained_model.use_patch_weights": 1,
            "saccades.sample_cortex": reverse(METRICS, "backbone.metric", ours.metric),
            **FINETUNING.write(ours),
        }

    def renamed(self, weights: Mapping[str, Tensor], source: str) -> Mapping[str, Tensor]:
        """Return the tensors with blocks under ``model.layer``, where transformers 5 has them."""
        prefix = "network.backbone."
        found = {
            layout
            for layout in LAYOUTS
            if any(name.startswith(prefix + layout) for name in weights)
        }
        if len(found) > 1:
            names = ", ".join(sorted(found))
            raise ValueError(f"{source}: all blocks must be under one of these names: {names}")
        if not found or found == {"model.layer."}:
            return weights
        there, here = prefix + found.pop(), f"{prefix}model.layer."
        return {
            here + name.removeprefix(there) if name.startswith(there) else name: tensor
            for name, tensor in weights.items()
        }

    def links(self, backbone: Backbone, ours: DINOv3Config) -> Iterable[Link]:
        """Return the pairs of the tensors of layers."""
        here, there = "backbone.layers.0", "network.backbone.embeddings"
        embedding: Any = backbone.layers[0]
        for name, _ in embedding.named_parameters(recurse=False):
            theirs = {"class_token": "cls_token"}.get(name, name)
            yield Link(
                f"{here}.{name}",
                f"{there}.{theirs}",
                to_ours=lambda value: value.squeeze(0),
                to_theirs=lambda value: value.unsqueeze(0),
            )
        yield from conv_links(f"{here}.conv", f"{there}.patch_embeddings", embedding.conv)
        blocks: list[Any] = list(backbone.layers)[1:]
        for index, block in enumerate(blocks):
            for name in block.layer.state_dict():
                yield Link(
                    f"backbone.layers.{index + 1}.layer.{name}",
                    f"network.backbone.model.layer.{index}.{adapted_name(name)}",
                )
        norm: Any = backbone.norm
        for name in norm.state_dict():
            yield Link(f"backbone.norm.{name}", f"network.backbone.norm.{name}")

    def rows(self, backbone: Backbone) -> int:
        """Return 1: upstream flattens tokens as we do, token by token."""
        return 1

    def connections(self, backbone: Backbone, ours: DINOv3Config) -> dict[str, Connection]:
        """Return where upstream's patch embedding runs."""
        return {"backbone.embeddings.patch_embeddings": backbone.layers[0].runs_on["conv"]}


def _size(theirs: UpstreamConfig) -> dict[str, Any]:
    """Return our keys of the size: those of a folder's configuration, or of a published name."""
    key = "pretrained_model.path"
    path = theirs.get(key)
    if not isinstance(path, str):
        theirs.fail(key, f"must be a name on the Hub or a folder, got {shown(path)}")
    if (Path(path) / "config.json").is_file():
        try:
            read = DINOv3Config.of_transformers(path)
        except (ValueError, TypeError) as error:
            theirs.fail(key, f"must be of a DINOv3, got {path!r}: {error}")
        return {"size": read.size, "options": list(read.options)}
    found = re.search(r"dinov3-(vit\w+?)-", path)
    sizes = {published: ours for ours, published in PUBLISHED.items()}
    if found is None or found[1] not in sizes:
        names = ", ".join(map(repr, sizes))
        theirs.fail(key, f"must be a folder, or a DINOv3 of one of {names}, got {path!r}")
    return {"size": sizes[found[1]]}
