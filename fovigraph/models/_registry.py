"""Backbones by name: each family registers its class with its schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import NamedTuple, TypeVar

from fovigraph._checks import instance, new_class, one_of, positive_ints, shown
from fovigraph._schema import Section
from fovigraph.geometry import SensorArray
from fovigraph.geometry.layout import check_strides
from fovigraph.models.backbone import Backbone

B = TypeVar("B", bound=type[Backbone])


class BackboneConfig(Section):
    """The section ``backbone``: what the schemas of all families have in common.

    Attributes:
        name: Name of the family (:func:`register`), which says what else the section has.
    """

    SECTION = "backbone"

    name: str

    @classmethod
    def variants(cls) -> Mapping[str, type[Section]]:
        return {name: family.config for name, family in FAMILIES.items()}

    def check_lists(self, first: str, *others: str) -> int:
        """Check that keys hold lists of whole numbers of at least 1, not empty and equally long.

        Args:
            first: The key that says how long.
            others: The other keys.

        Returns:
            Their length.

        Raises:
            ValueError: If they do not.
        """
        length = len(positive_ints(f"backbone.{first}", getattr(self, first)))
        if length == 0:
            raise ValueError(f"backbone.{first} must have at least one entry, got []")
        for name in others:
            self._check_length(name, positive_ints(f"backbone.{name}", getattr(self, name)), first)
        return length

    def check_strides(self, first: str) -> None:
        """Check that ``strides`` holds numbers of at least 1, as many as the list ``first``.

        Raises:
            ValueError: If it does not.
        """
        strides = check_strides("backbone.strides", self.strides)  # type: ignore[attr-defined]
        self._check_length("strides", strides, first)

    def _check_length(self, name: str, values: Sequence[float], first: str) -> None:
        length = len(getattr(self, first))
        if len(values) != length:
            raise ValueError(
                f"backbone.{name} must have {length} entries like backbone.{first}, "
                f"got {len(values)}"
            )


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
        config: The schema of the section, a frozen dataclass whose field ``name`` has this
            default.

    Raises:
        TypeError: If ``name`` is not a string, ``config`` is not a schema of backbones, or what is
            decorated is not a backbone.
        ValueError: If another class has the name, or ``config`` has another.

    Example:
        >>> from dataclasses import dataclass
        >>> import fovigraph as fg
        >>> from fovigraph.models import Backbone, BackboneConfig, PoolBlock, register
        >>> @dataclass(frozen=True)
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
    known = isinstance(config, type) and issubclass(config, BackboneConfig)
    if not known or not is_dataclass(config):
        raise TypeError(f"config must be a dataclass of BackboneConfig, got {shown(config)}")
    if config().name != name:
        raise ValueError(f"config must have the name {name!r} by default, got {config().name!r}")

    def decorate(backbone: B) -> B:
        there = FAMILIES.get(name)
        new_class("backbone", backbone, Backbone, name, None if there is None else there.backbone)
        FAMILIES[name] = Family(backbone, config)
        return backbone

    return decorate


def build_backbone(config: BackboneConfig, retina: SensorArray, in_channels: int = 3) -> Backbone:
    """Build the backbone that a configuration's ``backbone`` section names.

    Args:
        config: The section, of the schema that its name is registered with (:func:`register`).
        retina: The lowest level.
        in_channels: Channels of the samples.

    Raises:
        ValueError, TypeError: If the section does not describe a backbone, or an argument is of
            another type.
    """
    instance("config", config, BackboneConfig, allowed="the section of a configuration")
    instance("retina", retina, SensorArray)
    family = FAMILIES[one_of("backbone.name", config.name, FAMILIES)]
    return family.backbone.from_config(config, retina, in_channels)
