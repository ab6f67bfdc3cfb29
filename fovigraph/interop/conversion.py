"""Conversion of saved networks: upstream's folders to ours, and ours to upstream's."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors import SafetensorError

from fovigraph._checks import flag, path_of
from fovigraph._plain import ConfigError, read_text, read_yaml
from fovigraph.interop import checkpoint, config
from fovigraph.interop.load import from_upstream, links
from fovigraph.interop.upstream_config import UpstreamConfig
from fovigraph.interop.weights import to_theirs
from fovigraph.models import FoviNet
from fovigraph.models.card import model_card
from fovigraph.models.pretrained import find_pretrained

log = logging.getLogger(__name__)

ORIGIN = "upstream.yaml"
"""The file of upstream's own configuration in a converted folder, for conversion back."""


def convert(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    to_upstream: bool = False,
    revision: str | None = None,
) -> Path:
    """Convert a saved network: from upstream's folder to ours, or back.

    Ours, which :meth:`fovigraph.FoviNet.from_pretrained` loads, has ``config.yaml``,
    ``model.safetensors``, a model card (``README.md``) and upstream's configuration
    (``upstream.yaml``). Upstream's has ``resolved_config.yaml`` and ``state_dict.pth``. After
    conversion there and back, tensors are bitwise equal.

    Args:
        source: A folder, or an id on the Hugging Face Hub.
        destination: The folder to make; it must not exist, or be empty.
        to_upstream: Whether ``source`` is ours and ``destination`` upstream's.
        revision: Branch, tag or commit on the Hub.

    Returns:
        The folder made.

    Raises:
        TypeError: If an argument is of another type.
        FileExistsError: If there is something at ``destination``.
        OSError: If it cannot be written. Nothing half-written is left.
        FileNotFoundError, ConfigError, ValueError: If ``source`` cannot be loaded, or has no
            equivalent in the other package.
    """
    flag("to_upstream", to_upstream)
    path_of("source", source)
    target = path_of("destination", destination).resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"destination must not exist or be an empty folder, got {target}")
    write = _write_upstream if to_upstream else _write_ours
    with _whole_or_nothing(target) as partial:
        write(source, partial, revision)
    return target


@contextmanager
def _whole_or_nothing(target: Path) -> Iterator[Path]:
    """Yield a folder that is renamed to ``target`` at the end, and removed if anything fails."""
    partial = target.with_name(f".{target.name}.{uuid4().hex[:8]}")
    made = [folder for folder in target.parents if not folder.exists()]
    try:
        with _writing(partial):
            partial.mkdir(parents=True)
        yield partial
        with _writing(partial):
            partial.replace(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):
            for folder in made:  # the innermost first
                folder.rmdir()
        raise


def _write_ours(source: str | os.PathLike[str], folder: Path, revision: str | None) -> None:
    origin = checkpoint.find_upstream(source, revision=revision)
    net = from_upstream(origin)
    content, _ = checkpoint.read_config(origin)
    with _writing(folder):
        net.save_pretrained(folder)
        (folder / ORIGIN).write_text(OmegaConf.to_yaml(content), encoding="utf-8")
        card = model_card(
            net,
            Path(source).expanduser().resolve().name,
            "converted from the format of the fovi package",
        )
        (folder / "README.md").write_text(card, encoding="utf-8")


def _write_upstream(source: str | os.PathLike[str], folder: Path, revision: str | None) -> None:
    origin = find_pretrained(source, revision)
    net: FoviNet = FoviNet.from_pretrained(origin)
    theirs = _upstream_config(net, origin)
    tensors = to_theirs(net.state_dict(), links(net, UpstreamConfig(theirs)))
    with _writing(folder):
        OmegaConf.save(theirs, folder / "resolved_config.yaml")
        torch.save({"state_dict": tensors}, folder / "state_dict.pth")


def _upstream_config(net: FoviNet, origin: Path) -> DictConfig:
    """Return the network's original configuration if it still describes it, or a new one."""
    path = origin / ORIGIN
    if path.exists():
        try:
            content = read_yaml(read_text(path), str(path))
            if config.read_config(content, str(path)) == net.config:
                return OmegaConf.create(content)
            log.info("%s describes another network than the one in its folder", path)
        except (ConfigError, TypeError) as error:
            log.warning("%s is not used: %s", path, error)
    return OmegaConf.create(config.write_config(net.config))


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Return a context in which errors of writing are an OSError that names the folder."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        problem = error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0]
        raise OSError(f"cannot write to {folder.parent}: {problem or error}") from error
