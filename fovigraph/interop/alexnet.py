"""AlexNet: upstream's ``fovi_alexnet2023`` (before 2.0 also ``saccadenet_alexnet2023_knn``)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from fovigraph._checks import shown
from fovigraph.config import AlexNetConfig, ConfigError
from fovigraph.graph import Connection
from fovigraph.interop.family import (
    METRICS,
    NORMS,
    UpstreamFamily,
    read_out_side,
    register_upstream,
)
from fovigraph.interop.upstream_config import UpstreamConfig, only, reverse
from fovigraph.interop.weights import Link, kernel_link, norm_links
from fovigraph.models import Backbone, KNNAlexNet, KNNAlexNetBlock
from fovigraph.sensing import RetinaConfig

# Output channels, side of the kernel and stride of every layer, by `model.arch_spec`.
SPECS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "base": ((96, 11, 4), (256, 5, 1), (384, 3, 1), (384, 3, 1), (256, 3, 1)),
    "base_": ((96, 11, 4), (256, 5, 1), (384, 3, 1), (384, 3, 1), (256, 3, 1)),
    "base_4layer": ((96, 11, 4), (256, 5, 1), (384, 3, 1), (256, 3, 1)),
    "base_lowres": ((96, 11, 2), (256, 5, 1), (384, 3, 1), (384, 3, 1), (256, 3, 1)),
    "4layer_lowres": ((96, 5, 2), (256, 5, 2), (384, 3, 1), (256, 3, 1)),
    "4layer_nostride": ((96, 5, 1), (256, 5, 1), (384, 3, 1), (256, 3, 1)),
    "base_lowres_smallrf": ((96, 5, 2), (256, 5, 1), (384, 3, 1), (384, 3, 1), (256, 3, 1)),
}

POOL_AFTER = (0, 1, 4)
POOL: dict[str, Any] = {"pool": "max", "pool_k": 9, "pool_stride": 2}
"""The pools, which are the same in all of upstream's specifications."""


@register_upstream("alexnet")
class UpstreamAlexNet(UpstreamFamily[AlexNetConfig]):
    """The mapping of our ``KNNAlexNet`` and upstream's ``fovi_alexnet2023``."""

    names = ("fovi_alexnet2023", "saccadenet_alexnet2023_knn")
    irrelevant = ("model.vit.*", "model.stem_*")

    def read_config(self, theirs: UpstreamConfig, retina: Mapping[str, Any]) -> dict[str, Any]:
        """Return our section ``backbone``."""
        layers = theirs.choice("model.arch_spec", SPECS)
        kernels = theirs.number("model.k_mult")
        widths = theirs.number("model.channel_mult")
        sides = [side if kernels == 1 else max(1, int(kernels * side)) for _, side, _ in layers]
        _check_convolution(theirs)
        section: dict[str, Any] = {
            "name": "alexnet",
            "channels": [max(1, int(channels * widths)) for channels, _, _ in layers],
            "strides": [stride for _, _, stride in layers],
            "k": [side**2 for side in sides],
            "pool_after": [layer for layer in POOL_AFTER if layer < len(layers)],
            **POOL,
            "out_side": read_out_side(theirs),
            "norm": theirs.choice("model.norm", NORMS),
            "metric": theirs.choice("saccades.sample_cortex", METRICS),
        }
        multiplier = theirs.get("model.ref_frame_mult", None)
        flag = theirs.get("model.arch_flag", "") or ""
        if multiplier is not None:
            if flag:
                theirs.fail(
                    "model.arch_flag", f"must be '' with model.ref_frame_mult, got {shown(flag)}"
                )
            section["kernel_multiplier"] = theirs.number("model.ref_frame_mult")
        else:
            if flag not in ("", "doubleres"):
                theirs.fail("model.arch_flag", f"must be '' or 'doubleres', got {shown(flag)}")
            section["kernel_multiplier"] = 2.0 if flag else 1.0
            section["k"] = _capped(theirs, section, retina)
        return section

    def write_config(self, ours: AlexNetConfig) -> dict[str, Any]:
        """Return upstream's keys, dotted."""
        for key, value in POOL.items():
            only(f"backbone.{key}", getattr(ours, key), value)
        only("backbone.conv", ours.conv, "full")
        spec, channel_mult, k_mult = _find_spec(ours)
        return {
            "model.arch_spec": spec,
            "model.arch_flag": "",
            "model.channel_mult": channel_mult,
            "model.k_mult": k_mult,
            "model.norm": reverse(NORMS, "backbone.norm", ours.norm),
            "model.out_grid_size": -1 if ours.out_side is None else ours.out_side,
            "model.ref_frame_mult": ours.kernel_multiplier,
            "saccades.sample_cortex": reverse(METRICS, "backbone.metric", ours.metric),
        }

    def links(self, backbone: Backbone, ours: AlexNetConfig) -> Iterable[Link]:
        """Return the pairs of the tensors of blocks, which upstream numbers as ours."""
        assert isinstance(backbone, KNNAlexNet)
        in_channels = backbone.in_channels
        for index, (layer, channels) in enumerate(
            zip(backbone.layers, ours.channels, strict=False)
        ):
            assert isinstance(layer, KNNAlexNetBlock)
            here, there = f"backbone.layers.{index}", f"network.backbone.layers.{index}"
            yield kernel_link(f"{here}.conv.weight", f"{there}.conv.weight", in_channels)
            yield from norm_links(f"{here}.norm", f"{there}.norm", layer.norm, ours.norm)
            in_channels = channels

    def connections(self, backbone: Backbone, ours: AlexNetConfig) -> dict[str, Connection]:
        """Return where upstream's layers run, by their names."""
        found = {}
        last = f"backbone.layers.{len(ours.channels)}"  # the mean pool, in our last block or alone
        for index, block in enumerate(backbone.layers):
            for name, connection in block.runs_on.items():
                is_last = name == "pool" and index not in ours.pool_after
                found[last if is_last else f"backbone.layers.{index}.{name}"] = connection
        return found


def _check_convolution(theirs: UpstreamConfig) -> None:
    conv = theirs.get("model.conv_layer_cls", "default")
    if conv != "default":
        theirs.fail(
            "model.conv_layer_cls",
            f"must be 'default', got {shown(conv)}: upstream's depthwise convolutions, of as many "
            "outputs a channel as it takes, are not loaded yet",
        )


def _capped(
    theirs: UpstreamConfig, section: Mapping[str, Any], retina: Mapping[str, Any]
) -> list[int]:
    """Return k as upstream uses it, at most the nodes of the layer's input.

    Without ``model.ref_frame_mult``, the kernel's side is ``ceil(sqrt(k))`` of that k, or twice
    as much.
    """
    multiplier = section["kernel_multiplier"]
    capped = []
    try:
        level = RetinaConfig(**retina).array()
        for layer, (k, stride) in enumerate(zip(section["k"], section["strides"], strict=True)):
            k = min(k, len(level))
            side = int(multiplier) * math.ceil(math.sqrt(k))
            if side != math.ceil(multiplier * math.sqrt(k)):
                theirs.fail(
                    "model.arch_flag",
                    f"cannot be kept: layer {layer} has k={k} neighbours and a kernel of side "
                    f"{side}, which no multiplier of sqrt(k) gives",
                )
            capped.append(k)
            level = level.strided(stride)
            if layer in section["pool_after"]:
                level = level.strided(POOL["pool_stride"])
    except (ValueError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        theirs.fail("saccades.resize_size", f"does not fit the layers: {error}")
    return capped


def _find_spec(ours: AlexNetConfig) -> tuple[str, float, float]:
    """Return ``model.arch_spec``, ``.channel_mult`` and ``.k_mult`` of the same layers."""
    sides = [math.isqrt(k) for k in ours.k]
    squares = [side**2 for side in sides] == list(ours.k)
    for spec, layers in SPECS.items():
        pools = [layer for layer in POOL_AFTER if layer < len(layers)]
        shape = ([stride for _, _, stride in layers], pools)
        if not squares or shape != (list(ours.strides), sorted(ours.pool_after)):
            continue
        channel_mult = _multiplier([channels for channels, _, _ in layers], list(ours.channels))
        k_mult = _multiplier([side for _, side, _ in layers], sides)
        if channel_mult is not None and k_mult is not None:
            return spec, channel_mult, k_mult
    raise ConfigError(
        "backbone.channels, .strides, .k and .pool_after must be those of one of upstream's "
        f"specifications ({', '.join(SPECS)}), channels and sqrt(k) each times any number, to be "
        f"written for upstream; got {list(ours.channels)}, {list(ours.strides)}, {list(ours.k)} "
        f"and {list(ours.pool_after)}"
    )


def _multiplier(base: list[int], wanted: list[int]) -> float | None:
    """Return m with ``max(1, int(m · b)) = w`` for every pair, 1 if possible."""
    least = max(0.0 if w == 1 else w / b for b, w in zip(base, wanted, strict=True))
    most = min((w + 1) / b for b, w in zip(base, wanted, strict=True))
    for m in (1.0, least, (least + most) / 2):
        if [max(1, int(m * b)) for b in base] == wanted:
            return m
    return None
