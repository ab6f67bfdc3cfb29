"""Backbones by name: each family registers itself, beside its class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from fovigraph._checks import instance, one_of, shown
from fovigraph.config import BACKBONES, BackboneConfig
from fovigraph.geometry import SensorArray
from fovigraph.models.backbone import Backbone

B = TypeVar("B", bound=type[Backbone])


class Family(NamedTuple):
    """A kind of backbone.

    Attributes:
        backbone: Its class.
        config: The schema of the section ``backbone`` that describes one.
    """

    backbone: type[Backbone]
    config: type[BackboneConfig]


FAMILIES: dict[str, Family] = {}
"""The registered families, by ``backbone.name``."""


def register(name: str, config: type[BackboneConfig]) -> Callable[[B], B]:
    """Return a decorator that makes a class the backbone of configurations with a name.

    Args:
        name: The value of ``backbone.name``.
        config: The schema of the section, a dataclass whose field ``name`` has this default.

    Raises:
        TypeError: If ``name`` is not a string, ``config`` is not a schema of backbones, or what is
            decorated is not a backbone.
        ValueError: If another class has the name, or ``config`` has another.

    Example:
        >>> from dataclasses import dataclass
        >>> import fovigraph as fg
        >>> from fovigraph.config import BackboneConfig
        >>> from fovigraph.models import Backbone, PoolBlock, register
        >>> @dataclass
        ... class PooledConfig(BackboneConfig):
        ...     name: str = "pooled"
        ...     side: int = 4
        >>> @register("pooled", PooledConfig)
        ... class Pooled(Backbone):
        ...     @classmethod
        ...     def from_config(cls, config, retina, in_channels=3):
        ...         net, plan = cls(), fg.Plan(retina)
        ...         blocks = [PoolBlock(plan.pool(side=config.side), "max")]
        ...         net.assemble(blocks, plan, in_channels=in_channels, out_channels=in_channels)
        ...         return net
        >>> net = fg.FoviNet({"backbone": {"name": "pooled", "side": 2}})
        >>> net.backbone.num_features
        6
    """
    instance("name", name, str, allowed="a string")
    if not (isinstance(config, type) and issubclass(config, BackboneConfig)):
        raise TypeError(f"config must be a class of BackboneConfig, got {shown(config)}")
    if config().name != name:
        raise ValueError(f"config must have the name {name!r} by default, got {config().name!r}")

    def decorate(backbone: B) -> B:
        if not (isinstance(backbone, type) and issubclass(backbone, Backbone)):
            raise TypeError(f"backbone must be a class of Backbone, got {shown(backbone)}")
        known = FAMILIES.get(name)
        if known is not None and known.backbone.__qualname__ != backbone.__qualname__:
            raise ValueError(f"name must be new, got {name!r}, which is {known.backbone}")
        FAMILIES[name] = Family(backbone, config)
        BACKBONES[name] = config
        return backbone

    return decorate


def build_backbone(config: Any, retina: SensorArray, in_channels: int = 3) -> Backbone:
    """Build the backbone that a configuration's ``backbone`` section names.

    Args:
        config: The section, of the schema that its name is registered with (:func:`register`).
        retina: The lowest level.
        in_channels: Channels of the samples.

    Raises:
        ValueError, TypeError: If the section does not describe a backbone, or an argument is of
            another type.
    """
    instance("retina", retina, SensorArray)
    if not isinstance(getattr(config, "name", None), str):
        raise TypeError(f"config must be the section of a configuration, got {shown(config)}")
    family = FAMILIES[one_of("backbone.name", config.name, FAMILIES)]
    return family.backbone.from_config(config, retina, in_channels)
