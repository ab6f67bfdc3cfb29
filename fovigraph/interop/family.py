"""Families of backbones that are exchanged with upstream: each registers its mapping here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor

from fovigraph._checks import shown
from fovigraph._plain import ConfigError
from fovigraph.graph import Connection
from fovigraph.interop.upstream_config import UpstreamConfig
from fovigraph.interop.weights import Link
from fovigraph.models import Backbone, BackboneConfig

C = TypeVar("C", bound=BackboneConfig)

NORMS = {
    "batch": "batch",
    "force_batch": "batch",
    "layer_chan": "channel",
    "channel": "channel",
    "layer_space": "node",
    "coord": "node",
    "layer_all": "layer",
    "layer": "layer",
    "group": "group",
    "none": "none",
}
"""``model.norm`` → our ``backbone.norm``."""

METRICS: dict[Any, str] = {True: "cortical", False: "visual", "geodesic": "geodesic_from_node"}
"""``saccades.sample_cortex`` → our ``backbone.metric``.

Upstream measures along the surface from the point nearest to a node, our ``"geodesic"`` from the
node itself.
"""


CONVOLUTIONAL = (
    *("model.arch_spec", "model.channel_mult", "model.conv_layer_cls", "model.k_mult"),
    *("model.norm", "model.out_grid_size", "model.ref_frame_mult", "model.stem_*"),
)
"""Upstream's keys that change nothing in a transformer; the norm is then the projector's alone."""


def read_out_side(theirs: UpstreamConfig) -> int | None:
    """Return our ``backbone.out_side``, ``model.out_grid_size`` there."""
    if theirs.get("model.out_grid_size") in (None, -1):
        return None
    return theirs.whole("model.out_grid_size")


class UpstreamFamily(ABC, Generic[C]):
    """The mapping of one family: our section ``backbone`` and its tensors, and upstream's.

    Attributes:
        names: Upstream's names of it, the values of ``model.arch``; the first is written.
        irrelevant: Patterns of upstream's keys that change nothing in a network of this family.
    """

    names: ClassVar[tuple[str, ...]]
    irrelevant: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def read_config(self, theirs: UpstreamConfig, retina: Mapping[str, Any]) -> dict[str, Any]:
        """Return our section ``backbone`` of a network with our section ``retina``."""

    @abstractmethod
    def write_config(self, ours: C) -> dict[str, Any]:
        """Return upstream's keys, dotted, for our section ``backbone``.

        ``model.norm`` is one of them; upstream's projector uses it as well.
        """

    @abstractmethod
    def links(self, backbone: Backbone, ours: C) -> Iterable[Link]:
        """Return the pairs of a backbone's tensors and upstream's."""

    def renamed(self, weights: Mapping[str, Tensor], source: str) -> Mapping[str, Tensor]:
        """Return upstream's tensors under the names of :meth:`links`, where there are several.

        Args:
            weights: The tensors.
            source: Where they were read, for errors.
        """
        del source
        return weights

    def rows(self, backbone: Backbone) -> int:
        """Return how many rows of features upstream flattens channel by channel: all nodes."""
        return len(backbone.pyramid.levels[-1])

    @abstractmethod
    def connections(self, backbone: Backbone, ours: C) -> dict[str, Connection]:
        """Return where upstream's kNN layers run in our backbone's pyramid, by their names."""


FAMILIES: dict[str, UpstreamFamily[Any]] = {}
"""The families that are exchanged, by our ``backbone.name``."""

F = TypeVar("F", bound=type[UpstreamFamily[Any]])


def register_upstream(name: str) -> Callable[[F], F]:
    """Return a decorator that makes a class the mapping of the family with a ``backbone.name``."""

    def decorate(family: F) -> F:
        FAMILIES[name] = family()
        return family

    return decorate


def family_of(config: BackboneConfig) -> UpstreamFamily[Any]:
    """Return the mapping of the family that our section ``backbone`` names.

    Raises:
        ConfigError: If upstream has no such family.
    """
    if config.name not in FAMILIES:
        raise ConfigError(
            f"backbone.name must be one of {', '.join(map(repr, FAMILIES))} for upstream, "
            f"got {config.name!r}"
        )
    return FAMILIES[config.name]


def upstream_family(theirs: UpstreamConfig) -> UpstreamFamily[Any]:
    """Return the mapping of the family that upstream's ``model.arch`` names.

    Raises:
        ConfigError: If there is none.
    """
    known = {name: family for family in FAMILIES.values() for name in family.names}
    name = theirs.get("model.arch")
    if not isinstance(name, str) or name not in known:
        names = ", ".join(map(repr, known))
        theirs.fail(
            "model.arch",
            f"must be one of {names}, got {shown(name)}: fovigraph reads no other network yet",
        )
    return known[name]
