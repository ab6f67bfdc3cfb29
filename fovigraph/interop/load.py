"""Loading upstream's networks."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from fovigraph._checks import flag, shown
from fovigraph.config import ConfigError, FoviConfig
from fovigraph.interop import checkpoint, config
from fovigraph.interop.family import family_of, upstream_family
from fovigraph.interop.finetuning import has_adapters, merged
from fovigraph.interop.neighbours import check_lists, use_neighbours
from fovigraph.interop.upstream_config import UpstreamConfig
from fovigraph.interop.weights import Link, features_link, norm_links, not_needed, to_ours
from fovigraph.models import FoviNet

log = logging.getLogger(__name__)

_FIRST_BLOCK = 6
"""Number of the projector's first layer in upstream's names, as if after five convolutions."""


def from_upstream(
    path_or_hub_id: str | os.PathLike[str],
    *,
    revision: str | None = None,
    neighbours: Mapping[str, Tensor] | str | os.PathLike[str] | None = None,
    strict: bool = True,
    merge_lora: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    cls: type[FoviNet] = FoviNet,
) -> FoviNet:
    """Load a network that the upstream package, ``fovi`` 1.x or 2.x, saved or published.

    It takes images in [0, 1]: normalisation is part of the network here, and of the data
    loaders upstream.

    Args:
        path_or_hub_id: A folder with upstream's configuration (``resolved_config.yaml``,
            ``hydra/config.yaml``, ``config.yaml`` or ``params.json``) and weights
            (``state_dict.index.json`` with its files, ``state_dict.pth``,
            ``final_weights.pth`` or ``model.pth``); or ``"owner/name"`` on the Hugging Face
            Hub, or the name of a network that upstream publishes there (needs the extra
            ``hub``).
        revision: Branch, tag or commit on the Hub.
        neighbours: Neighbour lists exported from an upstream network, or their file, to
            reproduce one machine's network exactly
            (:func:`fovigraph.interop.use_neighbours`); ``"recomputed"``: those that upstream finds
            on this machine's CPU; ``None``: the canonical graphs.
        strict: Whether every tensor must be there and fit; otherwise those that do not are logged.
        merge_lora: Whether to add adapters to the weights that they are of, which then need no
            peft; otherwise the network has them (:mod:`fovigraph.models.lora`), unless the weights
            were saved merged.
        cache_dir: Folder of the Hub's cache; ``None``: huggingface_hub's own.
        cls: The class of the network, :class:`~fovigraph.FoviNet` or a class of it.

    Returns:
        The network, in evaluation mode.

    Raises:
        FileNotFoundError: If there is no such folder or repository, or it lacks files.
        ConfigError: If the configuration has a value that fovigraph does not support yet.
        ValueError: If files are damaged or hold code, weights are not those of the
            configuration, or neighbours not those of its geometry.
        ImportError: If the network needs transformers, peft or pygeodesic, and it is not installed.
        TypeError: If an argument is of another type.

    Example:
        .. code-block:: python

            net = fg.from_upstream("fovi-alexnet_a-0.5_res-64_rfmult-2_in1k")
            net(images).logits.argmax(-1)
    """
    flag("strict", strict)
    flag("merge_lora", merge_lora)
    if not (isinstance(cls, type) and issubclass(cls, FoviNet)):
        raise TypeError(f"cls must be FoviNet or a class of it, got {shown(cls)}")
    if neighbours is not None:
        check_lists("neighbours", neighbours)
    folder = checkpoint.find_upstream(path_or_hub_id, revision=revision, cache_dir=cache_dir)
    net = read_folder(folder, strict=strict, merge_lora=merge_lora, cls=cls).net
    if neighbours is not None:
        use_neighbours(net, neighbours)
    return net


class Loaded(NamedTuple):
    """A network of upstream's, and what was saved with it and has no place in ours.

    Attributes:
        net: The network, in evaluation mode.
        unused: Tensors of upstream's network that classification does not use, by name.
        probes: Those of the probes that upstream's trainer has of every layer.
    """

    net: FoviNet
    unused: dict[str, Tensor]
    probes: dict[str, Tensor]


def read_folder(
    folder: Path, *, strict: bool = True, merge_lora: bool = False, cls: type[FoviNet] = FoviNet
) -> Loaded:
    """Read a folder of upstream's; arguments and errors are those of :func:`from_upstream`."""
    content, path = checkpoint.read_config(folder)
    ours = config.read_config(content, str(path))
    stored = checkpoint.read_weights(folder)
    weights = family_of(ours.backbone).renamed(stored.weights, str(stored.source))
    ours, weights = _merged(ours, weights, str(stored.source), anyway=merge_lora)
    try:
        net = cls(ours)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: no such network can be built here: {error}") from error
    pairs, own = links(net, UpstreamConfig(content, str(path))), net.state_dict()
    found = to_ours(weights, pairs, own, source=stored.source, strict=strict)
    net.load_state_dict(found, strict=False)  # to_ours has checked that it is complete
    return Loaded(net.eval(), not_needed(weights), stored.probes)


def _merged(
    ours: FoviConfig, weights: Mapping[str, Tensor], source: str, *, anyway: bool
) -> tuple[FoviConfig, Mapping[str, Tensor]]:
    """Return a network's configuration and weights without adapters, if these are merged."""
    backbone: Any = ours.backbone
    rank = getattr(backbone, "lora_rank", None)
    if rank is None or not (anyway or not has_adapters(weights)):
        return ours, weights
    if not has_adapters(weights):
        log.info("%s: the adapters of its configuration are merged into the weights", source)
    alpha = rank if backbone.lora_alpha is None else backbone.lora_alpha
    weights = merged(weights, rank, alpha, source)
    return replace(ours, backbone=replace(backbone, lora_rank=None)), weights


def links(net: FoviNet, theirs: UpstreamConfig) -> Iterator[Link]:
    """Return the pairs of a network's tensors and upstream's, for upstream's configuration."""
    family = upstream_family(theirs)
    yield from family.links(net.backbone, net.config.backbone)
    yield from _projector_links(net, theirs)
    if net.config.head.num_classes:
        here, there = "head.1", "head.fix_projector.probe"
        yield _linear_link(net, here, there, first=not len(net.projector))
        yield Link(f"{here}.bias", f"{there}.bias")
        yield from _aggregation_links(net.aggregation)


def _aggregation_links(aggregation: nn.Module) -> Iterator[Link]:
    """Return the pairs of a learnt aggregation's tensors; of a mean, none."""
    for name in aggregation.state_dict():
        part, _, own = name.partition(".")
        named = {"cell": f"rnn.{own}_l0", "block": f"encoder.{own}"}.get(part, name)
        yield Link(f"aggregation.{name}", f"head.fix_aggregator.{named}")


def _projector_links(net: FoviNet, theirs: UpstreamConfig) -> Iterator[Link]:
    """Return the pairs of the projector's tensors; upstream numbers only the modules there are."""
    drops = theirs.get("model.dropout") is not None
    modules = list(net.projector)
    linear = [index for index, module in enumerate(modules) if isinstance(module, nn.Linear)]
    drops_last = drops and (len(linear) == 1 or theirs.flag("model.dropout_all"))
    for layer, index in enumerate(linear):
        last = index == linear[-1]
        block = f"network.projector.layers.fc_block_{_FIRST_BLOCK + layer}"
        part = int(drops_last if last else drops)
        here, there = f"projector.{index}", f"{block}.{part}"
        yield _linear_link(net, here, there, first=layer == 0)
        if not last:
            yield Link(f"{here}.bias", f"{there}.bias")
            here, there = f"projector.{index + 1}", f"{block}.{part + 1}"
            yield from norm_links(here, there, modules[index + 1], net.config.projector.norm)


def _linear_link(net: FoviNet, here: str, there: str, *, first: bool) -> Link:
    """Return the pair of a linear map's weights, the first after the backbone or a later one."""
    here, there = f"{here}.weight", f"{there}.weight"
    if not first:
        return Link(here, there)
    return features_link(here, there, family_of(net.config.backbone).rows(net.backbone))
