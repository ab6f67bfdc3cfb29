"""ResNets: upstream's ``fovi_resnet9``, ``18``, ``50`` (before 2.0 ``saccadenet_knnresnet…``)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from torch import nn

from fovigraph._checks import shown
from fovigraph.config import ConfigError
from fovigraph.graph import Connection
from fovigraph.interop.family import (
    METRICS,
    NORMS,
    UpstreamFamily,
    read_out_side,
    register_upstream,
)
from fovigraph.interop.finetuning import Finetuning, conv_links
from fovigraph.interop.upstream_config import UpstreamConfig, only, reverse
from fovigraph.interop.weights import Link, norm_links
from fovigraph.models import Backbone, PoolBlock
from fovigraph.models.lora import plain
from fovigraph.models.resnet import ResidualBlock, ResNetConfig
from fovigraph.nn import KNNConv


class Arch(NamedTuple):
    """What one of upstream's names says.

    Attributes:
        block, blocks: Our keys ``backbone.block`` and ``.blocks``.
        low_res: Whether the strides of the stem are 1, whatever the configuration has.
        finetuned: Whether ``pretrained_model`` says what learns, and which layers have adapters.
    """

    block: str
    blocks: tuple[int, ...]
    low_res: bool = False
    finetuned: bool = False


ARCHS = {
    "fovi_resnet9": Arch("basic", (1, 1, 1, 1)),
    "fovi_resnet9_lowres": Arch("basic", (1, 1, 1, 1), low_res=True),
    "fovi_resnet18": Arch("basic", (2, 2, 2, 2)),
    "fovi_resnet18_lowres": Arch("basic", (2, 2, 2, 2), low_res=True),
    "fovi_resnet50": Arch("bottleneck", (3, 4, 6, 3)),
}
"""``model.arch``; the separable forms, which upstream cannot build, are not among them."""

ARCHS |= {name.replace("fovi_", "saccadenet_knn"): arch for name, arch in ARCHS.items()}
ARCHS["fovi_resnet18_lora"] = Arch("basic", (2, 2, 2, 2), finetuned=True)

FINETUNING = Finetuning(
    norm="layers.8.norm2",
    norms=["layers.*norm*"],
    first="layers.0",
    targets={"conv1": "conv1", "conv2": "conv2", "shortcut": "downsample.0"},
)
"""The names of ``fovi_resnet18_lora``, a ResNet of eight blocks."""

FIXED: dict[str, Any] = {
    "channels": [64, 128, 256, 512],
    "strides": [1, 2, 2, 2],
    "k": 9,
    "stem_channels": 64,
    "stem_pool": "max",
    "conv": "full",
}
"""Our keys that have one value in all of upstream's ResNets."""


@register_upstream("resnet")
class UpstreamResNet(UpstreamFamily[ResNetConfig]):
    """The mapping of our ``KNNResNet`` and upstream's."""

    names = tuple(ARCHS)
    irrelevant = (
        "model.vit.*",
        "model.arch_spec",
        "model.channel_mult",
        "model.conv_layer_cls",
        "model.k_mult",
        "model.stem_conv_stride",  # of low-resolution forms
        "model.stem_pool_stride",
    )

    def read_config(self, theirs: UpstreamConfig, retina: Mapping[str, Any]) -> dict[str, Any]:
        """Return our section ``backbone``."""
        arch = theirs.choice("model.arch", ARCHS)
        multiplier, doubled = _kernels(theirs)
        stem = theirs.whole("model.stem_kernel_size", 7)
        least = 1 if multiplier == 1 else 2  # upstream multiplies the side of a single cell too
        if stem < least:
            theirs.fail("model.stem_kernel_size", f"must be at least {least}, got {stem}")
        conv, pool = (
            1 if arch.low_res else theirs.whole(f"model.stem_{part}_stride", 2)
            for part in ("conv", "pool")
        )
        if theirs.get("model.norm") == "none":
            theirs.fail("model.norm", "must not be 'none', with which upstream's ResNets fail")
        norm = theirs.choice("model.norm", NORMS)
        key = "pretrained_model.unfreeze_all_norms"
        if arch.finetuned and norm != "batch" and theirs.flag(key, 0):
            theirs.fail(
                key,
                f"must be 0 with model.norm {theirs.get('model.norm')!r}: it is of "
                "batch norms alone",
            )
        return {
            "name": "resnet",
            "block": arch.block,
            "blocks": list(arch.blocks),
            **FIXED,
            "stem_k": stem**2,
            "stem_stride": conv,
            "stem_pool_stride": pool,
            "kernel_multiplier": multiplier,
            "double_kernels": doubled,
            "out_side": read_out_side(theirs),
            "norm": norm,
            "metric": theirs.choice("saccades.sample_cortex", METRICS),
            **(FINETUNING.read(theirs) if arch.finetuned else {}),
        }

    def write_config(self, ours: ResNetConfig) -> dict[str, Any]:
        """Return upstream's keys, dotted."""
        for key, value in FIXED.items():
            own = getattr(ours, key)
            only(f"backbone.{key}", list(own) if isinstance(value, list) else own, value)
        if ours.norm == "none":
            raise ConfigError(
                "backbone.norm must not be 'none' to be written for upstream, whose ResNets fail "
                "without norms"
            )
        side = math.isqrt(ours.stem_k)
        if side**2 != ours.stem_k or (side == 1 and ours.kernel_multiplier != 1):
            raise ConfigError(
                "backbone.stem_k must be the square of a whole number, above 1 with a "
                "backbone.kernel_multiplier other than 1, to be written for upstream, "
                f"got {ours.stem_k}"
            )
        return {
            "model.arch": _arch(ours),
            "model.arch_flag": "doubleres" if ours.double_kernels else "",
            "model.norm": reverse(NORMS, "backbone.norm", ours.norm),
            "model.out_grid_size": -1 if ours.out_side is None else ours.out_side,
            "model.ref_frame_mult": ours.kernel_multiplier,
            "model.stem_kernel_size": side,
            "model.stem_conv_stride": ours.stem_stride,
            "model.stem_pool_stride": ours.stem_pool_stride,
            "saccades.sample_cortex": reverse(METRICS, "backbone.metric", ours.metric),
            **(_write_finetuned(ours) if _finetuned(ours) else {}),
        }

    def links(self, backbone: Backbone, ours: ResNetConfig) -> Iterable[Link]:
        """Return the pairs of the tensors of layers, in upstream's order."""
        for here, there, layer, _ in _layers(backbone, ours):
            theirs = f"network.backbone.{there}"
            if isinstance(plain(layer), KNNConv):
                yield from conv_links(here, theirs, layer)
            else:
                yield from norm_links(here, theirs, layer, ours.norm)

    def connections(self, backbone: Backbone, ours: ResNetConfig) -> dict[str, Connection]:
        """Return where upstream's layers run, by their names."""
        return {
            f"backbone.{there}": place
            for _, there, _, place in _layers(backbone, ours)
            if place is not None
        }


STEM = {"conv": "conv1", "norm": "bn1", "pool": "maxpool"}
BLOCK = {
    **{name: name for number in (1, 2, 3) for name in (f"conv{number}", f"norm{number}")},
    "shortcut": "downsample.0",
    "shortcut_norm": "downsample.1",
}
LAST = {"pool": "avgpool"}
"""Our names of a block's layers → upstream's."""


def _layers(
    backbone: Backbone, ours: ResNetConfig
) -> Iterator[tuple[str, str, nn.Module, Connection | None]]:
    """Yield our name and upstream's of every layer that has one, the layer, and where it runs."""
    places = [
        f"layer{stage}.{index}."
        for stage, count in enumerate(ours.blocks, 1)
        for index in range(count)
    ]
    for number, block in enumerate(backbone.layers):
        prefix, names = "", LAST if isinstance(block, PoolBlock) else STEM
        if isinstance(block, ResidualBlock):
            prefix, names = places[number - 1], BLOCK
        for name, layer in block.named_children():
            if name in names:
                here = f"backbone.layers.{number}.{name}"
                yield here, prefix + names[name], layer, block.runs_on.get(name)


def _kernels(theirs: UpstreamConfig) -> tuple[float, bool]:
    """Return our ``kernel_multiplier`` and ``double_kernels``."""
    given = theirs.get("model.ref_frame_mult", None)
    multiplier = theirs.number("model.ref_frame_mult") if given else 1.0
    flag = theirs.get("model.arch_flag", "") or ""
    allowed = ("", "doubleres") if multiplier == 1 else ("",)
    if flag not in allowed:
        names = " or ".join(map(repr, allowed))
        theirs.fail(
            "model.arch_flag",
            f"must be {names} with model.ref_frame_mult {multiplier:g}, got {shown(flag)}",
        )
    return multiplier, flag == "doubleres"


def _finetuned(ours: ResNetConfig) -> bool:
    return ours.lora_rank is not None or ours.trainable is not None


def _write_finetuned(ours: ResNetConfig) -> dict[str, Any]:
    blocks = ours.lora_blocks
    every = list(range(-1, sum(ours.blocks))) if blocks is None else list(blocks)
    return {
        "pretrained_model.weights": "IMAGENET1K_V1",
        "pretrained_model.preserve_kernel_norm": False,
        **FINETUNING.write(replace(ours, lora_blocks=every)),
    }


def _arch(ours: ResNetConfig) -> str:
    """Return ``model.arch``: a low-resolution form's where there is one."""
    if _finetuned(ours):
        only("backbone.block (with adapters or frozen parts)", ours.block, "basic")
        only("backbone.blocks (with adapters or frozen parts)", list(ours.blocks), [2, 2, 2, 2])
        return "fovi_resnet18_lora"
    low_res = ours.stem_stride == ours.stem_pool_stride == 1
    wanted = Arch(ours.block, tuple(ours.blocks))
    found = {arch: name for name, arch in reversed(ARCHS.items())}  # the first names win
    for arch in (wanted._replace(low_res=low_res), wanted):
        if arch in found:
            return found[arch]
    known = ", ".join(
        f"{arch.block} {list(arch.blocks)}"
        for arch in dict.fromkeys(Arch(arch.block, arch.blocks) for arch in ARCHS.values())
    )
    raise ConfigError(
        f"backbone.block and .blocks must be one of {known} to be written for upstream, "
        f"got {ours.block} {list(ours.blocks)}"
    )
