"""Conversion of saved networks: upstream's folders to ours, and ours to upstream's."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from fovigraph._checks import flag, path_of
from fovigraph._plain import ConfigError, read_text, read_yaml
from fovigraph.interop import checkpoint, config
from fovigraph.interop.load import Loaded, links, read_folder
from fovigraph.interop.upstream_config import UpstreamConfig
from fovigraph.interop.weights import to_theirs
from fovigraph.models import FoviNet
from fovigraph.models.card import model_card
from fovigraph.models.pretrained import find_pretrained

log = logging.getLogger(__name__)

ORIGIN = "upstream.yaml"
"""The file of upstream's own configuration in a converted folder, for conversion back."""

KEPT = "upstream.safetensors"
"""The file of upstream's tensors that have no place in ours, for conversion back."""

SUPERVISED = "supervised"
"""``training.loss`` of networks without a second projector."""

UNUSED, PROBES = "state_dict.", "probes."
"""What stands before the names of tensors there: of the network, and of the trainer's probes."""


def convert(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    to_upstream: bool = False,
    revision: str | None = None,
) -> Path:
    """Convert a saved network: from upstream's folder to ours, or back.

    Ours, which :meth:`fovigraph.FoviNet.from_pretrained` loads, has ``config.yaml``,
    ``model.safetensors``, a model card (``README.md``), upstream's configuration
    (``upstream.yaml``), and, if there are any, the weights of the projector of self-supervision and
    of the probes of every layer (``upstream.safetensors``). Upstream's has ``resolved_config.yaml``
    and ``state_dict.pth``. After conversion there and back, all tensors are bitwise equal.

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
    loaded = read_folder(origin)
    net = loaded.net
    content, _ = checkpoint.read_config(origin)
    with _writing(folder):
        net.save_pretrained(folder)
        (folder / ORIGIN).write_text(OmegaConf.to_yaml(content), encoding="utf-8")
        _keep(loaded, folder / KEPT)
        card = model_card(
            net,
            Path(source).expanduser().resolve().name,
            "converted from the format of the fovi package",
        )
        (folder / "README.md").write_text(card, encoding="utf-8")


def _write_upstream(source: str | os.PathLike[str], folder: Path, revision: str | None) -> None:
    origin = find_pretrained(source, revision, also=(ORIGIN, KEPT))
    net: FoviNet = FoviNet.from_pretrained(origin)
    theirs = _upstream_config(net, origin)
    tensors = to_theirs(net.state_dict(), links(net, UpstreamConfig(theirs)))
    unused, probes = _kept(origin / KEPT)
    if unused and not _has_place(unused, theirs, tensors):
        log.warning("%s: the network has another projector now: left out", origin / KEPT)
        unused = {}
    if not unused and _loss(theirs) != SUPERVISED:
        theirs.training.loss = SUPERVISED
    content = {"state_dict": tensors | unused} | ({checkpoint.PROBES: probes} if probes else {})
    with _writing(folder):
        OmegaConf.save(theirs, folder / "resolved_config.yaml")
        torch.save(content, folder / "state_dict.pth")


def _upstream_config(net: FoviNet, origin: Path) -> DictConfig:
    """Return the network's original configuration if it still describes it, or a new one."""
    path, loss = origin / ORIGIN, SUPERVISED
    if path.exists():
        try:
            original = OmegaConf.create(read_yaml(read_text(path), str(path)))
            if config.read_config(original, str(path)) == net.config:
                return original
            log.info("%s describes another network than the one in its folder", path)
            loss = _loss(original)
        except (ConfigError, TypeError, OmegaConfBaseException) as error:
            log.warning("%s is not used: %s", path, error)
    theirs = OmegaConf.create(config.write_config(net.config))
    theirs.training.loss = loss
    return theirs


def _keep(loaded: Loaded, path: Path) -> None:
    """Write the tensors that have no place in our network, if there are any."""
    kept = {UNUSED + name: tensor for name, tensor in loaded.unused.items()}
    kept |= {PROBES + name: tensor for name, tensor in loaded.probes.items()}
    if kept:
        own = {
            name: tensor.clone(memory_format=torch.contiguous_format)
            for name, tensor in kept.items()
        }
        save_file(own, path)


def _kept(path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return what :func:`_keep` wrote: tensors of the network, and of the trainer's probes."""
    kept = checkpoint.read_tensors(path) if path.exists() else {}
    odd = sorted(name for name in kept if not name.startswith((UNUSED, PROBES)))
    if odd:
        raise ValueError(f"{path}: names must start with {UNUSED!r} or {PROBES!r}, got {odd[0]!r}")
    unused, probes = (
        {name.removeprefix(start): kept[name] for name in kept if name.startswith(start)}
        for start in (UNUSED, PROBES)
    )
    return unused, probes


def _loss(theirs: DictConfig) -> str:
    """Return ``training.loss``; with any but supervised, upstream builds a second projector."""
    return str(OmegaConf.select(theirs, "training.loss", default=SUPERVISED))


def _has_place(
    unused: Mapping[str, Tensor], theirs: DictConfig, tensors: Mapping[str, Tensor]
) -> bool:
    """Return whether upstream's network, of a configuration, has these tensors."""
    first, second = "network.projector.", "network.projector_ssl."
    wanted = {
        second + name.removeprefix(first): tensor.shape
        for name, tensor in tensors.items()
        if name.startswith(first)
    }
    return _loss(theirs) != SUPERVISED and wanted == {n: t.shape for n, t in unused.items()}


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Return a context in which errors of writing are an OSError that names the folder."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        problem = error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0]
        raise OSError(f"cannot write to {folder.parent}: {problem or error}") from error
