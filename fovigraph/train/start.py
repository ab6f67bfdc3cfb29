"""Warm starts: the weights of a trained network, as far as they fit another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fovigraph.config import FoviConfig, load_config, to_dict
from fovigraph.models import FoviNet
from fovigraph.models.fovinet import class_names_of
from fovigraph.models.pretrained import find_pretrained, misfits, read_weights
from fovigraph.models.wrapped import names_without_wrappers

ARCHITECTURE = ("retina", "fixation", "backbone", "projector")
"""Sections of a configuration that are compared."""

OF_CLASSES = ("head.", "aggregation.")
"""How the names of tensors begin that belong to the classes."""

SHOWN = 5
"""Differences that are named."""


@dataclass
class WarmStart:
    """What a network took over from another.

    Attributes:
        folder: Where the other is.
        taken: Names of the tensors that were taken over.
        fresh: Names of the tensors that stayed as they were.
        differences: What the configurations differ in, by key: there, and here.
    """

    folder: Path
    taken: list[str]
    fresh: list[str]
    differences: dict[str, tuple[Any, Any]]

    def __str__(self) -> str:
        parts = [f"started from {self.folder}: {len(self.taken)} tensors taken over"]
        parts[0] += f" ({_modules(self.taken)})"
        if self.fresh:
            parts.append(f"random: {', '.join(self.fresh[:SHOWN])}{_more(self.fresh)}")
        if self.differences:
            parts.append(f"configured otherwise than there: {_differing(self.differences)}")
        return "; ".join(parts)


def find_start(folder_or_hub_id: str) -> Path:
    """Return the folder of the network ``train.start``.

    Raises:
        FileNotFoundError: If there is none.
    """
    try:
        return find_pretrained(folder_or_hub_id, None)
    except FileNotFoundError as error:
        raise FileNotFoundError(str(error).replace("folder_or_hub_id", "train.start", 1)) from error


def start_from(net: FoviNet, folder: Path) -> WarmStart:
    """Load the weights of another network that fit, by name and shape.

    Those of the head and of the aggregation over fixations are taken over only if the classes have
    the same names in the same order.

    Args:
        net: The network.
        folder: Of the other (:func:`find_start`).

    Raises:
        ValueError: If weights cannot be read or are not finite, or those of the backbone do not
            fit.
    """
    config = load_config(folder / "config.yaml")
    differences = _differences(config, net.config)
    weights = read_weights(folder / "model.safetensors", net)
    if class_names_of(config) != net.class_names:
        weights = {name: x for name, x in weights.items() if not name.startswith(OF_CLASSES)}
    rename = names_without_wrappers(net)
    own = {rename(name): x for name, x in net.state_dict().items()}
    backbone = misfits(_of_backbone(weights), _of_backbone(own))
    if backbone:
        differing = _differing(differences) or "nothing in their configurations"
        raise ValueError(
            f"train.start: the backbone of {folder} does not fit the recipe's; they differ in "
            f"{differing}; {'; '.join(backbone[:3])}{_more(backbone, 3)}"
        )
    taken = {name: x for name, x in weights.items() if name in own and x.shape == own[name].shape}
    if broken := misfits(taken, {name: own[name] for name in taken}):
        raise ValueError(f"train.start: {folder}: {'; '.join(broken[:3])}{_more(broken, 3)}")
    for name, x in taken.items():
        own[name].copy_(x)  # shares memory with the network's
    fresh = [name for name in own if name not in taken]
    return WarmStart(folder, list(taken), fresh, differences)


def _of_backbone(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: x for name, x in weights.items() if name.startswith("backbone.")}


def _differences(there: FoviConfig, here: FoviConfig) -> dict[str, tuple[Any, Any]]:
    found = {}
    for section in ARCHITECTURE:
        a, b = to_dict(there)[section], to_dict(here)[section]
        for key in [*a, *(key for key in b if key not in a)]:
            if a.get(key) != b.get(key):
                found[f"{section}.{key}"] = (a.get(key), b.get(key))
    return found


def _differing(differences: Mapping[str, tuple[Any, Any]]) -> str:
    differing = [f"{key} ({a} there, {b} here)" for key, (a, b) in differences.items()]
    return ", ".join(differing[:SHOWN]) + _more(differing)


def _modules(names: list[str]) -> str:
    return ", ".join(dict.fromkeys(name.partition(".")[0] for name in names))


def _more(names: list[str], shown: int = SHOWN) -> str:
    return f" and {len(names) - shown} more" if len(names) > shown else ""
