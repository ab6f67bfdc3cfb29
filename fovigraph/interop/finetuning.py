"""What of a network learns, and its adapters: upstream's section ``pretrained_model``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fovigraph._checks import shown
from fovigraph._plain import ConfigError
from fovigraph.interop.upstream_config import UpstreamConfig
from fovigraph.interop.weights import Link, kernel_link
from fovigraph.models.lora import Adapted, plain

AT = "pretrained_model"

ORIGINAL = ".parametrizations.weight.original"
"""End of upstream's name of a weight that has an adapter."""

ADAPTED = {
    "base_layer.weight": "parametrizations.weight.original",
    "base_layer.bias": "bias",
    "lora_A.default.weight": "parametrizations.weight.0.A",
    "lora_B.default.weight": "parametrizations.weight.0.B",
}
"""Ends of names: peft's, and upstream's, which are those of torch's parametrisations."""


@dataclass(frozen=True)
class Finetuning:
    """How a family names what ``pretrained_model`` is about.

    Attributes:
        norm: Our name of the last norm, which ``unfreeze_norm`` is about.
        norms: Our patterns for ``unfreeze_all_norms``.
        first: Our name of what ``unfreeze_layers`` calls -1.
        targets: Our ``backbone.lora_targets`` → ``lora.sublayers``.
    """

    norm: str
    norms: Sequence[str]
    first: str
    targets: Mapping[str, str]

    def read(self, theirs: UpstreamConfig) -> dict[str, Any]:
        """Return our keys ``trainable`` and ``lora_…``."""
        return {"trainable": self._trainable(theirs), **self._lora(theirs)}

    def write(self, ours: Adapted) -> dict[str, Any]:
        """Return upstream's keys, dotted."""
        names = None if ours.trainable is None else list(ours.trainable)
        frozen = ours.lora_rank is not None if names is None else names != ["*"]
        names = names or []
        layers = [-1] if self.first in names else []
        for name in names:
            block = re.fullmatch(r"layers\.([1-9]\d*)", name)
            if block:
                layers.append(int(block[1]) - 1)
            elif name not in (self.norm, self.first, "*", *self.norms):
                raise ConfigError(
                    f"backbone.trainable must be {self.norm!r}, {self.first!r}, 'layers.N' or "
                    f"norms of all blocks to be written for upstream, got {name!r}"
                )
        return {
            f"{AT}.freeze_backbone": int(frozen),
            f"{AT}.unfreeze_norm": int(self.norm in names),
            f"{AT}.unfreeze_layers": layers or None,
            f"{AT}.unfreeze_all_norms": int(set(self.norms) <= set(names)),
            f"{AT}.lora": self._write_lora(ours),
        }

    def _trainable(self, theirs: UpstreamConfig) -> list[str] | None:
        names = [self.norm] if theirs.flag(f"{AT}.unfreeze_norm", 0) else []
        layers = _numbers(theirs, f"{AT}.unfreeze_layers")
        names += [self.first if index == -1 else f"layers.{index + 1}" for index in layers]
        if theirs.flag(f"{AT}.unfreeze_all_norms", 0):
            names += self.norms
        if theirs.flag(f"{AT}.freeze_backbone", 0):
            return names
        return ["*"] if theirs.get(f"{AT}.lora", None) is not None else None

    def _lora(self, theirs: UpstreamConfig) -> dict[str, Any]:
        at = f"{AT}.lora"
        if theirs.get(at, None) is None or theirs.get(f"{at}.layers", None) is None:
            return {"lora_rank": None}
        ours = {theirs: ours for ours, theirs in self.targets.items()}
        sublayers = theirs.get(f"{at}.sublayers")
        if not isinstance(sublayers, list):
            theirs.fail(f"{at}.sublayers", f"must be a list of names, got {shown(sublayers)}")
        for name in sublayers:
            if name not in ours:
                allowed = ", ".join(ours)
                theirs.fail(f"{at}.sublayers", f"must be some of {allowed}, got {shown(name)}")
        return {
            "lora_rank": theirs.whole(f"{at}.r"),
            "lora_alpha": theirs.number(f"{at}.alpha"),
            "lora_blocks": _numbers(theirs, f"{at}.layers"),
            "lora_targets": [ours[name] for name in sublayers],
        }

    def _write_lora(self, ours: Adapted) -> dict[str, Any] | None:
        if ours.lora_rank is None:
            return None
        for name in ours.lora_targets:
            if name not in self.targets:
                raise ConfigError(
                    f"backbone.lora_targets must be some of {', '.join(self.targets)} to be "
                    f"written for upstream, got {name!r}"
                )
        if ours.lora_blocks is None:
            raise ConfigError(
                "backbone.lora_blocks must be a list to be written for upstream, got None"
            )
        return {
            "r": ours.lora_rank,
            "alpha": float(ours.lora_rank if ours.lora_alpha is None else ours.lora_alpha),
            "layers": list(ours.lora_blocks),
            "sublayers": [self.targets[name] for name in ours.lora_targets],
        }


def _numbers(theirs: UpstreamConfig, key: str) -> list[int]:
    """Return the whole numbers that a key holds: a list of them, one, or none (null)."""
    value = theirs.get(key, None)
    found = [] if value is None else value if isinstance(value, list) else [value]
    for number in found:
        if isinstance(number, bool) or not isinstance(number, int) or number < -1:
            theirs.fail(key, f"must be whole numbers from -1, got {shown(value)}")
    return found


def adapted_name(name: str) -> str:
    """Return upstream's name of a tensor that peft names; any other name as it is."""
    for ours, theirs in ADAPTED.items():
        if name.endswith(ours):
            return name.removesuffix(ours) + theirs
    return name


def conv_links(ours: str, theirs: str, conv: nn.Module) -> Iterable[Link]:
    """Return the pairs of the tensors of a kNN convolution, with an adapter or without one."""
    for name in conv.state_dict():
        own, other = f"{ours}.{name}", f"{theirs}.{adapted_name(name)}"
        if name.endswith(("bias", "lora_B.default.weight")):
            yield Link(own, other)
        else:
            yield kernel_link(own, other, plain(conv).in_channels)


def has_adapters(weights: Mapping[str, Tensor]) -> bool:
    """Return whether weights of upstream's have adapters."""
    return any(name.endswith(ORIGINAL) for name in weights)


def merged(
    weights: Mapping[str, Tensor], rank: int, alpha: float, source: str
) -> dict[str, Tensor]:
    """Return upstream's weights with their adapters added, W + α/r (B A), as it computes that.

    Args:
        weights: The tensors.
        rank, alpha: r and α.
        source: Where they were read, for errors.

    Raises:
        ValueError: If a weight lacks its adapter, or has one of another shape.
    """
    found = {}
    for name, tensor in weights.items():
        layer, adapted, part = name.partition(".parametrizations.weight.")
        if not adapted:
            found[name] = tensor
        elif part == "original":
            rows, columns = tensor.flatten(1).shape
            a, b = (weights.get(f"{layer}{adapted}0.{each}") for each in "AB")
            if a is None or b is None or [*b.shape, *a.shape] != [rows, rank, rank, columns]:
                raise ValueError(
                    f"{source}: {layer}{adapted}0.B and 0.A must be there, of shapes "
                    f"{[rows, rank]} and {[rank, columns]}"
                )
            found[f"{layer}.weight"] = tensor + alpha / rank * (b @ a).view(tensor.shape)
    return found
