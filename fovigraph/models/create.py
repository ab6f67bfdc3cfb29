"""Networks by name: one call makes any of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor, nn

from fovigraph import _compose
from fovigraph._checks import flag, nearest, positive_int, shown
from fovigraph._names import Named, what_is_named
from fovigraph._shipped import config_names, pretrained_names
from fovigraph.models.channels import with_channels
from fovigraph.models.config import FoviConfig
from fovigraph.models.evaluating import evaluating
from fovigraph.models.fovinet import FoviNet, check_fovinet
from fovigraph.models.heads import classes_asked_for
from fovigraph.models.pretrained import HubOptions, find_pretrained
from fovigraph.models.wrapped import unwrapped


@overload
def create_model(
    name_or_folder_or_hub_id: str | os.PathLike[str],
    pretrained: bool = ...,
    *,
    num_classes: int | None = ...,
    class_names: Sequence[str] | None = ...,
    in_channels: int | None = ...,
    revision: str | None = ...,
    cache_dir: str | os.PathLike[str] | None = ...,
    token: str | bool | None = ...,
    local_files_only: bool = ...,
    **overrides: Any,
) -> FoviNet: ...
@overload
def create_model(
    name_or_folder_or_hub_id: str | os.PathLike[str],
    pretrained: bool = ...,
    *,
    features_only: bool,
    layers: Sequence[str] | None = ...,
    **options: Any,
) -> FoviNet | FeatureNet: ...
def create_model(
    name_or_folder_or_hub_id: str | os.PathLike[str],
    pretrained: bool = False,
    *,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    in_channels: int | None = None,
    features_only: bool = False,
    layers: Sequence[str] | None = None,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    **overrides: Any,
) -> FoviNet | FeatureNet:
    """Make a network by name, with random weights or with trained ones.

    Args:
        name_or_folder_or_hub_id: One of :func:`list_models`, a YAML file, the folder of a saved
            network, or ``"owner/name"`` on the Hugging Face Hub.
        pretrained: Whether to load its trained weights; otherwise they are random, whatever is in
            the folder.
        num_classes: Number of classes, instead of the network's own; 0: no head, for embeddings
            alone. With trained weights, a head for other classes is new, the rest is kept.
        class_names: Names of the classes; alone, they also say how many there are.
        in_channels: Channels of the images, as :meth:`FoviNet.from_pretrained` has it.
        features_only: Whether to return a :class:`FeatureNet`, which gives the blocks' features.
        layers: For ``features_only``: names of blocks; ``None``: all.
        revision, cache_dir, token, local_files_only: For the Hub, as
            :meth:`FoviNet.from_pretrained` has them.
        **overrides: Other values of the configuration: whole sections as mappings
            (``fixation={"count": 2}``), or single keys (``**{"fixation.count": 2}``).

    Returns:
        The network, in training mode with random weights and in evaluation mode with trained ones.

    Raises:
        ConfigError: If there is no such network, or an override is none of a network.
        FileNotFoundError: If a folder or the Hub does not hold it, or no trained weights come with
            it.
        ValueError, TypeError: If another argument is not of the kind said above.

    Example:
        >>> import torch, fovigraph as fg
        >>> net = fg.create_model("fovi_tiny", num_classes=5, fixation={"count": 2})
        >>> net(torch.rand(1, 3, 64, 64)).fixation_logits.shape
        torch.Size([1, 2, 5])
        >>> embed = fg.create_model("fovi_cifar10", pretrained=True, num_classes=0)
        >>> embed(torch.rand(1, 3, 64, 64)).embeddings.shape
        torch.Size([1, 5, 160])
    """
    flag("pretrained", pretrained)
    flag("features_only", features_only)
    if layers is not None and not features_only:
        raise ValueError(f"layers must be None unless features_only, got {shown(layers)}")
    name = name_or_folder_or_hub_id
    hub = HubOptions(cache_dir, token, local_files_only)
    if pretrained:
        _check_trained(name)
        net = FoviNet.from_pretrained(
            name,
            revision,
            num_classes=num_classes,
            class_names=class_names,
            in_channels=in_channels,
            overrides=overrides,
            **hub._asdict(),
        )
    else:
        config = _compose.changed(_config(name, revision, hub), overrides)
        if in_channels is not None:
            config = with_channels(config, positive_int("in_channels", in_channels))
        head = classes_asked_for(num_classes, class_names)
        net = FoviNet(_compose.changed(config, {"head": head} if head else {}))
    return FeatureNet(net, layers) if features_only else net


def _config(name: Any, revision: str | None, hub: HubOptions) -> FoviConfig:
    """Return the configuration of the network of a name."""
    text = os.fspath(name) if isinstance(name, (str, os.PathLike)) else ""
    if what_is_named(text, configuration_first=True) is Named.NETWORK:
        name = find_pretrained(name, revision, hub) / "config.yaml"
    return _compose.load(name, (), FoviConfig)


def _check_trained(name: Any) -> None:
    """Refuse the name of a configuration, which has no trained weights."""
    if name in config_names() and what_is_named(name) is Named.CONFIGURATION:
        near = nearest(name, pretrained_names())
        raise FileNotFoundError(
            f"name_or_folder_or_hub_id must be one of {', '.join(map(repr, pretrained_names()))}, "
            f"a folder or an id on the Hub to be pretrained, got the configuration {name!r}"
            + (f" (did you mean {near!r}?)" if near else "")
        )


class FeatureInfo(NamedTuple):
    """What one of a :class:`FeatureNet`'s outputs is.

    Attributes:
        name: The block's name.
        level: The level that its features live on, by index in the pyramid.
        nodes: Number of nodes N.
        channels: Number of channels C.
    """

    name: str
    level: int
    nodes: int
    channels: int


class FeatureNet(nn.Module):
    """A network that gives the features of its blocks instead of classes.

    Args:
        net: The network.
        layers: Names of blocks, in order; ``None``: all.

    Attributes:
        info: What each of its outputs is.
        pyramid: The levels that features live on.

    Raises:
        TypeError: If ``net`` is no network, or ``layers`` no list of names.
        ValueError: If there is no block of such a name.

    Example:
        >>> import torch, fovigraph as fg
        >>> names = ["layers.0", "layers.1"]
        >>> net = fg.create_model("fovi_tiny", features_only=True, layers=names)
        >>> [list(features.shape) for features in net(torch.rand(2, 3, 64, 64))]
        [[2, 4, 60, 16], [2, 4, 16, 32]]
    """

    def __init__(self, net: FoviNet, layers: Sequence[str] | None = None):
        super().__init__()
        check_fovinet("net", net)
        self.net = net
        with evaluating(net), torch.no_grad():
            zeros = unwrapped(net.backbone).zero_samples()  # type: ignore[operator]  # a Backbone's
            seen = net.backbone.intermediates(zeros, layers)
        self.info = [
            FeatureInfo(name, each.level, *each.features.shape[1:]) for name, each in seen.items()
        ]

    @property
    def pyramid(self) -> Any:
        return self.net.pyramid

    def forward(
        self,
        images: Tensor,
        fixations: Tensor | Sequence[Any] | None = None,
        generator: torch.Generator | None = None,
    ) -> list[Tensor]:
        """Return features ``[B, F, N, C]``, one tensor for each of :attr:`info`.

        Args:
            images, fixations, generator: As for :meth:`FoviNet.forward`.
        """
        names = [each.name for each in self.info]
        seen: Mapping[str, Any] = self.net.features(images, fixations, names, generator)
        return [seen[name].features for name in names]
