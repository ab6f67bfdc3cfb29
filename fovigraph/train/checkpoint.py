"""Checkpoints: complete, written whole or not at all, and compared before a run goes on."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from fovigraph.config import ConfigError, as_config, to_dict
from fovigraph.train.recipe import Recipe

UNCHANGING = (
    "data.memory",
    "data.set_classes",
    "data.workers",
    "head.sharpening",
    "head.temperature",
    "train.activation_checkpointing",
    "train.devices",
    "train.log",
    "train.log_every",
    "train.nodes",
    "train.save_every",
)
"""Keys that may differ when a run goes on, as they do not change its result (of numbers of devices,
but for rounding)."""


EXTENDING = ("train.epochs", "train.patience")
"""Keys that may differ, as they make a run longer or shorter."""

CHANGING = (*EXTENDING, "data.memory", "data.workers", "train.log", "train.log_every")
"""Keys that an error names as those that may differ."""

OF_DATA = ("head.class_names", "head.multi_label", "head.num_classes", "train.batch_size")
"""Keys that data and objective decide: classes, and a smaller batch for fewer images."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written, read, or gone on from."""


def write(content: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint; until it is complete on the disk, the one before stays.

    Raises:
        CheckpointError: If it cannot be written; the one before is still there.
    """
    partial, whole = "", io.BytesIO()
    torch.save(dict(content), whole)  # in memory: torch's own errors do not say that a disk is full
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(whole.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        if partial:
            Path(partial).unlink(missing_ok=True)
        before = f"; {path} of before is complete" if path.exists() else ""
        raise CheckpointError(
            f"cannot write the checkpoint {path}: {error.strerror}{before}"
        ) from error


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        CheckpointError: If there is none, or it is damaged.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path} to resume from") from error
    except Exception as error:  # damaged archives raise nearly anything
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"cannot read the checkpoint {path}: {reason}") from error
    if not isinstance(content, dict) or not isinstance(content.get("recipe"), dict):
        raise CheckpointError(f"{path} is not a checkpoint of a training run")
    return content


def check_unchanged(
    before: Mapping[str, Any], now: Mapping[str, Any], ignored: Collection[str] = ()
) -> None:
    """Say what changed between a checkpoint's recipe and the one that it is resumed with.

    Args:
        before: The checkpoint's recipe; what it does not state has its default.
        now: The recipe at hand.
        ignored: Keys that are not compared.

    Raises:
        CheckpointError: If anything did that may not.
    """
    allowed = {*UNCHANGING, *EXTENDING, *ignored}
    old, new = _flat(before), _flat(now)
    # Released versions did not name classes, and evaluated in other places.
    if "fixation.random_in_eval" in old:
        allowed.add("fixation.in_eval")
    if old.get("head.class_names") is None:
        allowed.add("head.class_names")
    with suppress(ConfigError):  # of another version: compared as it is
        old = _flat(to_dict(as_config(before, schema=Recipe)))
    changes = [
        f"{key} was {old.get(key, 'not there')!r}, is {new.get(key, 'not there')!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and key not in allowed
    ]
    if changes:
        raise CheckpointError(
            "cannot resume with another recipe than the run began with: "
            f"{'; '.join(changes)} (what may change: {', '.join(sorted(CHANGING))})"
        )


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
