"""Networks in folders: ``config.yaml`` beside ``model.safetensors``."""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import DictConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from fovigraph.config import save_config

FILES = ("config.yaml", "model.safetensors")


def save_pretrained(net: nn.Module, config: DictConfig, folder: Path) -> None:
    """Write a network's configuration and weights, each complete or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / ".model.safetensors.partial"
    try:
        weights = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
        save_file(weights, partial, metadata={"format": "pt"})
        save_config(config, folder / "config.yaml")
        partial.replace(folder / "model.safetensors")
    finally:
        partial.unlink(missing_ok=True)


def find_pretrained(folder_or_hub_id: str | os.PathLike[str], revision: str | None) -> Path:
    """Return the folder that holds a network, fetched from the Hub if it is not a folder here."""
    folder = Path(folder_or_hub_id)
    if not folder.exists() and str(folder_or_hub_id).count("/") == 1:
        folder = _from_hub(str(folder_or_hub_id), revision)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"folder_or_hub_id must hold {' and '.join(FILES)}, but {folder} "
            + (f"lacks {' and '.join(missing)}" if folder.is_dir() else "is not a folder")
        )
    return folder


def _from_hub(hub_id: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise FileNotFoundError(
            f"there is no folder {hub_id!r}; to fetch it from the Hugging Face Hub, "
            "install the extra: pip install 'fovigraph[hub]'"
        ) from error
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=list(FILES)))
    except Exception as error:  # the Hub's errors are many: no network, no such repository, …
        raise FileNotFoundError(
            f"there is no folder {hub_id!r}, and the Hugging Face Hub did not give it: {error}"
        ) from error


def load_weights(net: nn.Module, path: Path) -> None:
    """Load safetensors into a network that they must fit exactly."""
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"cannot read weights from {path}: {error}") from error
    own = net.state_dict()
    problems = [f"missing: {name}" for name in own if name not in weights]
    problems += [f"unexpected: {name}" for name in weights if name not in own]
    problems += [
        f"{name}: shape {list(weights[name].shape)}, needed {list(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    if problems:
        more = f"\n  … and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise ValueError(
            f"the weights in {path} are of another architecture than its configuration:\n  "
            + "\n  ".join(problems[:10])
            + more
        )
    net.load_state_dict(weights)
