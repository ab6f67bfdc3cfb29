"""Configurations: read from YAML, laid over one another, checked, written.

A configuration is a frozen dataclass, :class:`FoviConfig`, whose sections are frozen dataclasses
too. A misspelt key or a wrong type is a :class:`ConfigError` that names the key, where it was
written and what is allowed.

Example:
    >>> from fovigraph.config import load_config, to_dict, update_config
    >>> config = load_config("fovi_tiny", overrides=["fixation.count=2"])
    >>> config.fixation.count
    2
    >>> to_dict(update_config(config, {"head.num_classes": 3}))["head"]["num_classes"]
    3

The schemas stand beside the classes that they describe, so PyTorch and PyG, which take seconds, are
imported with the first of them that is used.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from fovigraph import _compose
from fovigraph._checks import instance, path_of, shown
from fovigraph._compose import to_dict as to_dict
from fovigraph._compose import to_yaml as to_yaml
from fovigraph._plain import ConfigError as ConfigError
from fovigraph._schema import Section as Section
from fovigraph._shipped import config_names as config_names

if TYPE_CHECKING:
    from fovigraph.models._registry import BackboneConfig as BackboneConfig
    from fovigraph.models.alexnet import AlexNetConfig as AlexNetConfig
    from fovigraph.models.config import TRAINING as TRAINING
    from fovigraph.models.config import FoviConfig as FoviConfig
    from fovigraph.models.heads import HeadConfig as HeadConfig
    from fovigraph.models.heads import ProjectorConfig as ProjectorConfig
    from fovigraph.sensing import FixationConfig as FixationConfig
    from fovigraph.sensing import RetinaConfig as RetinaConfig

C = TypeVar("C", bound="FoviConfig")

_SCHEMAS = {
    "BackboneConfig": "models._registry",
    "AlexNetConfig": "models.alexnet",
    "TRAINING": "models.config",
    "FoviConfig": "models.config",
    "HeadConfig": "models.heads",
    "ProjectorConfig": "models.heads",
    "FixationConfig": "sensing",
    "RetinaConfig": "sensing",
}
"""Where the schemas are defined, which are imported when they are first used."""


def __getattr__(name: str) -> Any:
    if name not in _SCHEMAS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fovigraph.{_SCHEMAS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_SCHEMAS})


@overload
def load_config(
    name_or_path: str | os.PathLike[str],
    overrides: Sequence[str] = (),
) -> FoviConfig: ...
@overload
def load_config(
    name_or_path: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    schema: type[C],
) -> C: ...
def load_config(
    name_or_path: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    schema: Any = None,
) -> Any:
    """Read a configuration.

    A YAML file may begin with ``base: other`` (a name, or a path relative to the file) and then
    states only what differs. What no file states has the schema's default. A file or override that
    changes ``backbone.name`` starts that backbone from its own defaults. ``${retina.side}`` stands
    for the value of that key; nothing else is evaluated, so that a stranger's file can be read.
    Lists are replaced, never merged.

    Args:
        name_or_path: One of :func:`config_names`, or the path of a YAML file (with its suffix).
        overrides: ``"dotted.key=value"`` strings with the value in YAML, applied in order (but
            ``backbone.name`` first).
        schema: What it is read against; ``None``: :class:`FoviConfig`, which of a training recipe
            reads the network, and leaves the :data:`TRAINING` sections alone.

    Returns:
        The configuration, complete: a frozen dataclass of that schema.

    Raises:
        ConfigError: If something cannot be found or read, or does not fit the schema.

    Example:
        >>> from fovigraph.config import load_config
        >>> config = load_config("fovi_alexnet", overrides=["fixation.count=2"])
        >>> config.fixation.count, config.backbone.k
        (2, [121, 25, 9, 9, 9])
    """
    return _compose.load(name_or_path, overrides, _checked_schema(schema))


@overload
def as_config(config: Mapping[str, Any] | Section) -> FoviConfig: ...
@overload
def as_config(config: Mapping[str, Any] | Section, *, schema: type[C]) -> C: ...
def as_config(config: Mapping[str, Any] | Section, *, schema: Any = None) -> Any:
    """Check a mapping as :func:`load_config` does a file, and complete it with the defaults.

    Args:
        config: Nested mappings like a YAML file's (without ``base``), OmegaConf's ``DictConfig``
            included; or a :class:`FoviConfig`.
        schema: What it is read against, as in :func:`load_config`.

    Returns:
        A new configuration of that schema, complete.

    Raises:
        ConfigError: If it does not fit the schema.
    """
    return _compose.checked(config, _checked_schema(schema))


def update_config(config: C, changes: Mapping[str, Any]) -> C:
    """Return a configuration in which some keys have other values.

    Args:
        config: A configuration, or a recipe; it stays as it is.
        changes: A mapping from dotted keys, or from sections, to values.

    Raises:
        ConfigError: If the result does not fit the schema.
        TypeError: If ``config`` is not a configuration.

    Example:
        >>> from fovigraph.config import load_config, update_config
        >>> config = load_config("fovi_tiny")
        >>> update_config(config, {"fixation.count": 2, "head": {"num_classes": 3}}).fixation.count
        2
    """
    instance("config", config, _checked_schema(None))
    return _compose.changed(config, changes)


def save_config(config: Mapping[str, Any] | FoviConfig, path: str | os.PathLike[str]) -> None:
    """Write the complete configuration to a YAML file, from which :func:`load_config` reads it.

    Raises:
        ConfigError: If ``config`` does not fit the schema.
        TypeError: If ``path`` is no path.
        OSError: If the file cannot be written.
    """
    _compose.write_yaml(as_config(config), path_of("path", path))


def _checked_schema(schema: Any) -> type[FoviConfig]:
    from fovigraph.models.config import FoviConfig

    if schema is None:
        return FoviConfig
    if not (isinstance(schema, type) and issubclass(schema, FoviConfig)):
        raise ConfigError(f"schema must be FoviConfig or a class of it, got {shown(schema)}")
    return schema
