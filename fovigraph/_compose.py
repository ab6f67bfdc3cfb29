"""Reading configurations from YAML files, overrides and mappings, merging and checking them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from omegaconf import OmegaConf

from fovigraph._checks import nearest, one_of, shown
from fovigraph._plain import (
    DEEPEST,
    ConfigError,
    References,
    as_plain,
    name_of,
    read_text,
    read_value,
    read_yaml,
)
from fovigraph._schema import Section, build, described, is_section, keys, kinds, typed, variant
from fovigraph._shipped import config_names, shipped_folder

S = TypeVar("S", bound=Section)

LONGEST_KEY = 100
"""Characters of an unknown key that errors quote."""

_OVERRIDE = re.compile(r"\s*(?P<key>[\w-]+(\.[\w-]+)*)\s*=(?P<value>.*)", re.DOTALL)


class Layer(NamedTuple):
    """Part of a configuration.

    Attributes:
        source: Where it was written, for errors.
        content: Plain values, nested.
    """

    source: str
    content: Mapping[Any, Any]


class Written(NamedTuple):
    """The layers of a configuration, from the lowest to the highest.

    Attributes:
        files: Those of a file, after those of the files that it is based on.
        overrides: Those of overrides, with names like ``backbone.name`` first.
    """

    files: list[Layer]
    overrides: list[Layer]

    @property
    def where(self) -> str:
        """The sources that errors of the whole configuration name."""
        return ", ".join(layer.source for layer in (self.files[-1], *self.overrides))


def load(name_or_path: Any, overrides: Any, schema: type[S]) -> S:
    """Read a configuration from files and overrides, as :func:`fovigraph.load_config` says.

    Raises:
        ConfigError: If something cannot be found or read, or does not fit the schema.
    """
    written = read(name_or_path, overrides)
    files = [_without(schema.IGNORED, layer) for layer in written.files]
    return compose([*files, *written.overrides], written.where, schema)


def read(name_or_path: Any, overrides: Any = ()) -> Written:
    """Read the files of a configuration, and overrides.

    Args:
        name_or_path: The name of one that comes with the package, or the path of a YAML file.
        overrides: ``"dotted.key=value"`` strings with the value in YAML.

    Raises:
        ConfigError: If something cannot be found or read.
    """
    path = _find(name_or_path)
    if isinstance(overrides, (str, bytes)) or not isinstance(overrides, Sequence):
        raise ConfigError(
            f"overrides must be a list of 'dotted.key=value' strings, got {shown(overrides)}"
        )
    changes = [_parsed(override) for override in overrides]
    return Written(_read_files(path), sorted(changes, key=_is_no_name))


def compose(layers: Sequence[Layer], where: str, schema: type[S]) -> S:
    """Merge layers over the defaults of a schema, in their order, and check the whole.

    Lists are replaced. A layer that changes the name of a section of which there are several
    variants, as ``backbone.name``, starts that section from its own defaults.

    Args:
        layers: The layers.
        where: The sources that errors of the whole configuration name.
        schema: The schema.

    Raises:
        ConfigError: If they do not fit the schema.
    """
    composed = to_dict(schema())
    for source, content in layers:
        _merge(composed, schema, content, source, composed)
    try:
        followed = References(composed).within()
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    if followed != composed:
        _merge(composed, schema, followed, where, composed)
    if missing := sorted(_missing(composed)):
        raise ConfigError(f"{where}: {', '.join(missing)} must be given a value, got '???'")
    try:
        return build(schema, composed)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from None


def checked(config: Any, schema: type[S]) -> S:
    """Return a configuration that is given as nested mappings or as a dataclass.

    Raises:
        ConfigError: If it does not fit the schema.
    """
    content = as_plain(config, "config")
    if not isinstance(content, dict):
        raise ConfigError(
            f"config must be a mapping like a configuration file's, got {shown(config)}; "
            "load_config reads one by name or path"
        )
    return compose([_without(schema.IGNORED, Layer("config", content))], "config", schema)


def changed(config: S, changes: Any) -> S:
    """Return a configuration in which some keys have other values.

    Args:
        config: The configuration, which stays as it is.
        changes: A mapping from dotted keys, or from sections, to values.

    Raises:
        ConfigError: If ``changes`` is no mapping, or the result does not fit the schema.
    """
    if not isinstance(changes, Mapping):
        raise ConfigError(f"changes must be a mapping from keys to values, got {shown(changes)}")
    layers = sorted((_given(key, value) for key, value in changes.items()), key=_is_no_name)
    where = ", ".join(layer.source for layer in layers) or "config"
    return compose([Layer("config", to_dict(config)), *layers], where, type(config))


def stated(layers: Sequence[Layer], *place: str) -> Any:
    """Return the value of a key in layers, with references followed; ``None``: it has none.

    Errors in the layers are left to :func:`compose`.
    """
    content: dict[Any, Any] = {}
    for layer in layers:
        content = _laid_over(content, layer.content)
    try:
        return References(content).at(place)
    except (KeyError, ConfigError):
        return None


def _laid_over(below: Mapping[Any, Any], above: Mapping[Any, Any]) -> dict[Any, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _laid_over(merged[key], value) if both else value
    return merged


def to_dict(config: Section) -> dict[str, Any]:
    """Return a configuration, or a section of one, as nested dictionaries and lists."""
    content: dict[str, Any] = as_plain(config, "config")
    return content


def to_yaml(config: Section) -> str:
    """Return a configuration as the YAML of a file."""
    return OmegaConf.to_yaml(OmegaConf.create(to_dict(config)))


def write_yaml(config: Section, path: Path) -> None:
    """Write a configuration to a file."""
    path.write_text(to_yaml(config), encoding="utf-8")


def _find(name_or_path: Any, *, within: Path | None = None) -> Path:
    """Return the file of a name or path; ``within`` is the file whose ``base`` it is."""
    said_by = f"{within}: base" if within else "name_or_path"
    text = os.fspath(name_or_path) if isinstance(name_or_path, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise ConfigError(
            f"{said_by} must be the name of a configuration or the path of a YAML file, "
            f"got {shown(name_or_path)}"
        )
    names = config_names()
    if name_or_path in names:
        return shipped_folder() / f"{text}.yaml"
    if isinstance(name_or_path, str) and Path(text).name == text and not Path(text).suffix:
        hint = nearest(text, names)
        raise ConfigError(
            f"{said_by} must be the path of a YAML file or one of "
            f"{', '.join(map(repr, names))}, got {shown(text)}"
            + (f" (did you mean {hint!r}?)" if hint else "")
        )
    path = Path(text)
    try:
        path = path.expanduser()
        path = within.parent / path if within else path
        there = path.is_file()
    except (OSError, RuntimeError, ValueError):  # too long, no such user, a NUL in it
        there = False
    if not there:
        raise ConfigError(f"{said_by} must be an existing file, got {shown(str(path))}")
    return path


def _read_files(path: Path, below: tuple[Path, ...] = ()) -> list[Layer]:
    """Read a file and what it is based on, the base first; ``below`` are the files based on it."""
    chain = (*below, path)
    if path.resolve() in [other.resolve() for other in below]:
        raise ConfigError(f"base makes a cycle: {' → '.join(map(str, chain))}")
    if len(below) > DEEPEST:
        raise ConfigError(f"{path}: base must lead through at most {DEEPEST} files")
    content = as_plain(read_yaml(read_text(path), str(path)), str(path))
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold 'key: value' pairs, got {shown(content)}")
    base = content.pop("base", None)
    based_on = [] if base is None else _read_files(_find(base, within=path), chain)
    return [*based_on, Layer(str(path), content)]


def _parsed(override: Any) -> Layer:
    """Return the layer of one ``"dotted.key=value"``."""
    source = f"override {shown(override)}"
    match = isinstance(override, str) and _OVERRIDE.fullmatch(override)
    if not match:
        raise ConfigError(f"{source}: must be of the form 'dotted.key=value'")
    return _nested(match["key"], read_value(match["value"], source), source)


def _given(key: Any, value: Any) -> Layer:
    """Return the layer of one entry of a mapping of changes."""
    source = f"override {shown(key)}"
    if not isinstance(key, str):
        raise ConfigError(f"{source}: must be of a key like 'fixation.count'")
    return _nested(key, value, source)


def _nested(key: str, value: Any, source: str) -> Layer:
    for part in reversed(key.split(".")):
        value = {part: value}
    return Layer(source, as_plain(value, source))


def _is_no_name(layer: Layer) -> bool:
    """Return whether a layer has anything but the name of a section."""
    [section] = layer.content.values()
    return not (isinstance(section, Mapping) and section.keys() == {"name"})


def _without(ignored: Sequence[str], layer: Layer) -> Layer:
    """Return a layer without keys that another schema is for."""
    content = {key: value for key, value in layer.content.items() if key not in ignored}
    return Layer(layer.source, content)


def _merge(
    node: dict[str, Any],
    schema: type[Section],
    content: Mapping[Any, Any],
    source: str,
    root: Mapping[str, Any],
    prefix: str = "",
) -> None:
    """Write ``content`` into ``node``, of a schema, whose keys begin with ``prefix``."""
    fields = kinds(schema)
    for key, value in content.items():
        word = key if isinstance(key, str) and len(key) <= LONGEST_KEY else shown(key)
        path = f"{prefix}{word}"
        if key in schema.IGNORED:
            raise ConfigError(f"{source}: {path} is a section of training recipes, not of networks")
        if key not in fields:
            hint = _of_others(key, schema, node) or _suggestion(word, prefix, root)
            raise ConfigError(f"{source}: {path} is not a key{hint}")
        if is_section(fields[key]) and isinstance(value, Mapping):
            value = fields[key].upgrade(value)
            if "name" in value and fields[key].variants():
                _choose_variant(node, key, fields[key], value["name"], f"{source}: {path}")
            _merge(node[key], variant(fields[key], node[key]), value, source, root, f"{path}.")
            continue
        try:
            node[key] = typed(value, fields[key], refers=True)
        except TypeError:
            wanted = described(fields[key])
            raise ConfigError(f"{source}: {path} must be {wanted}, got {shown(value)}") from None


def _choose_variant(
    node: dict[str, Any], key: str, schema: type[Section], name: Any, path: str
) -> None:
    """Reset a section to the defaults of the variant with a name, unless it is that variant."""
    try:
        chosen = schema.variants()[one_of(f"{path}.name", name, schema.variants())]
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error)) from None
    if name != node[key]["name"]:
        node[key] = to_dict(chosen())


def _missing(content: Any, place: tuple[Any, ...] = ()) -> Iterator[str]:
    """Yield the names of values that must be given."""
    if content == "???":
        yield name_of(place)
    elif isinstance(content, (dict, list)):
        entries = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in entries:
            yield from _missing(value, (*place, key))


def _of_others(key: Any, schema: type[Section], node: Mapping[str, Any]) -> str:
    """Return which variants of a section have a key that the chosen one has not; else nothing."""
    others = [repr(name) for name, each in schema.variants().items() if key in kinds(each)]
    return f" of {node['name']!r}, but of {', '.join(others)}" if others else ""


def _suggestion(key: str, prefix: str, root: Mapping[str, Any]) -> str:
    """Return the valid key nearest to a misspelt one: of its section, else any, else a list."""
    known = list(keys(root))
    section = [path for path in known if path.rpartition(".")[0] == prefix.rstrip(".")]
    for paths in (section, known):
        names = {path: path.rpartition(".")[2] for path in paths}
        if near := nearest(key, dict.fromkeys(names.values())):
            meant = [path for path, name in names.items() if name == near]
            return f" (did you mean {' or '.join(meant)}?)"
    return f"; {prefix.rstrip('.') or 'a configuration'} has {', '.join(section)}"
