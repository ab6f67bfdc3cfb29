"""The network that a command line names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import DictConfig

from fovigraph.cli.errors import UserError, users_mistake
from fovigraph.cli.output import complain
from fovigraph.config import ConfigError, config_names, load_config
from fovigraph.graph import GraphPyramid
from fovigraph.models import FoviNet
from fovigraph.models.pretrained import find_pretrained, load_weights


def saved_folder(name: str) -> Path | None:
    """Return the folder of a saved model that ``name`` is, or None for a configuration."""
    if name in config_names() or not os.path.isdir(name):
        return None
    return pretrained_folder(name, "CONFIG")


def pretrained_folder(name: str, word: str) -> Path:
    """Return the folder of the saved model, here or on the Hub, that an argument names."""
    try:
        return find_pretrained(name, None)
    except OSError as error:  # there is none, or no file can have such a name
        raise UserError(str(error).replace("folder_or_hub_id", word, 1)) from error


def read_config(name: str, overrides: Sequence[str]) -> DictConfig:
    """Read the configuration that ``name`` (a name, a file or a folder) is, and change it."""
    folder = saved_folder(name)
    return read(load_config, name if folder is None else folder / "config.yaml", overrides)


def read(
    load: Callable[[str | Path, Sequence[str]], DictConfig],
    name: str | Path,
    overrides: Sequence[str],
) -> DictConfig:
    """Read a configuration, or a recipe, by a function that reads one."""
    try:
        return load(name, overrides)
    except ConfigError as error:
        raise UserError(str(error).replace("name_or_path", "CONFIG", 1)) from error


def build(config: DictConfig, folder: Path | None = None) -> FoviNet:
    """Build a network for evaluation, with the weights in ``folder`` or with random ones."""
    with users_mistake(ValueError, TypeError, ImportError):
        net = _made(config).eval()
        if folder is not None:
            load_weights(net, folder / "model.safetensors")
    if folder is None:  # whoever trained a network has read it
        say_where_k_is_cut(net.pyramid)
    return net


def _made(config: DictConfig) -> FoviNet:
    try:
        return FoviNet(config)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or re.search(r"memory|Storage size", str(error)):
            raise UserError("the network that CONFIG describes does not fit in memory") from error
        raise


def say_where_k_is_cut(pyramid: GraphPyramid) -> None:
    """Say on standard error where k is more than a level has nodes, if it is anywhere."""
    cut = [
        f"{name} {stage.k} of {graph.num_src}"
        for name, stage, graph in zip(
            pyramid.names[1:], pyramid.stages, pyramid.graphs, strict=True
        )
        if stage.k is not None and stage.k > graph.num_src
    ]
    if cut:
        complain(
            "fovigraph: k is more than the level below has nodes, so all of those are taken: "
            + ", ".join(cut)
        )
