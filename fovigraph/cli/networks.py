"""The network that a command line names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from fovigraph._checks import nearest
from fovigraph._names import Named, what_is_named
from fovigraph.cli.errors import UserError, users_mistake
from fovigraph.cli.output import complain
from fovigraph.config import ConfigError, FoviConfig, config_names, load_config
from fovigraph.graph import GraphPyramid
from fovigraph.models import FoviNet, pretrained_names
from fovigraph.models.pretrained import find_pretrained, load_weights

C = TypeVar("C", bound=FoviConfig)


def saved_folder(name: str, argument: str = "MODEL") -> Path | None:
    """Return the folder of the trained network that ``name`` is, or None for a configuration."""
    found = what_is_named(name)
    if found is Named.CONFIGURATION:
        return None
    if found is None:
        shipped = sorted({*pretrained_names(), *config_names()})
        hint = nearest(name, shipped)
        raise UserError(
            f"{argument} must be one of {', '.join(map(repr, shipped))}, a YAML file, the "
            f"folder of a saved network, or an id on the Hub (owner/name), got {name!r}"
            + (f" (did you mean {hint!r}?)" if hint else "")
        )
    try:
        return find_pretrained(name, None)
    except FileNotFoundError as error:
        raise UserError(str(error).replace("folder_or_hub_id", "MODEL", 1)) from error


def read_config(name: str, overrides: Sequence[str]) -> FoviConfig:
    """Read the configuration of the network that ``name`` is, and change it."""
    folder = saved_folder(name)
    return read(load_config, name if folder is None else folder / "config.yaml", overrides)


def read(
    load: Callable[[str | Path, Sequence[str]], C],
    name: str | Path,
    overrides: Sequence[str],
    argument: str = "MODEL",
) -> C:
    """Call a function that reads a configuration or a recipe; its ConfigError is the user's."""
    try:
        return load(name, overrides)
    except ConfigError as error:
        raise UserError(str(error).replace("name_or_path", argument, 1)) from error


def build(config: FoviConfig, folder: Path | None = None, device: str = "cpu") -> FoviNet:
    """Build a network for evaluation, with the weights in ``folder`` or with random ones."""
    with users_mistake(ValueError, TypeError, ImportError):
        net = _made(config).eval()
        if folder is not None:
            load_weights(net, folder / "model.safetensors")
    if folder is None:  # training said so already
        say_where_k_is_cut(net.pyramid)
    return net.to(device)


def _made(config: FoviConfig) -> FoviNet:
    try:
        return FoviNet(config)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or re.search(r"memory|Storage size", str(error)):
            raise UserError("the network that MODEL describes does not fit in memory") from error
        raise


def say_where_k_is_cut(pyramid: GraphPyramid) -> None:
    """Warn on standard error of steps whose k is more than the level below has nodes."""
    cut = [
        f"{name} {step.k} of {graph.num_src}"
        for name, step, graph in zip(pyramid.names[1:], pyramid.steps, pyramid.graphs, strict=True)
        if step.k is not None and step.k > graph.num_src
    ]
    if cut:
        complain(
            "fovigraph: k is more than the level below has nodes, so all of those are taken: "
            + ", ".join(cut)
        )


def warn_of_random_weights(name: str, folder: Path | None) -> None:
    """Warn on standard error of random weights, if there is no folder of trained ones."""
    if folder is None:
        complain(
            f"fovigraph: the weights are random, as {name} is a configuration, not a trained "
            "network: its classes mean nothing"
        )


def device_of(name: str) -> str:
    """Return the device that ``--device`` asks for."""
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise UserError("argument --device: there is no CUDA device here, got 'cuda'")
    return ("cuda" if there else "cpu") if name == "auto" else name
