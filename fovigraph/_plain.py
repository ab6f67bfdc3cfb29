"""Reading configurations of unknown origin as plain values, without evaluating anything in them.

Plain values are mappings, lists, strings, numbers, true, false and null, within limits. A string
may refer to other keys (``${section.key}``). All other expressions of OmegaConf are refused, such
as ``${oc.env:NAME}``: a configuration from elsewhere must not read the environment.
"""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import yaml  # for its events and errors; OmegaConf reads
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fovigraph._checks import shown

LARGEST_FILE = 1_000_000
"""Bytes."""

DEEPEST = 20
"""Largest depth of nested sections and lists, and largest number of references in a chain."""

MOST_VALUES = 10_000
"""Largest number of sections, lists and values, with aliases and references expanded."""

LONGEST_TEXT = 1_000
"""Largest number of characters of a string with references, before and after expansion."""

LARGEST_INT = 2**63 - 1

_REFERENCE = re.compile(r"\$\{(\.*)(\w[\w-]*(?:\.\w[\w-]*|\[\w[\w-]*\])*)\}")
"""``${retina.side}``, ``${backbone.k[0]}``; or ``${.side}``, relative, a dot for every level up."""

_Place = tuple[Any, ...]
"""The keys and indices that lead to a value."""


class ConfigError(ValueError):
    """A configuration that cannot be read, or that does not fit the schema."""


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        ConfigError: If it is no regular file, too large, not UTF-8, or cannot be read.
    """
    try:
        if not path.is_file():
            raise ConfigError(f"{path}: must be a regular file")
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise ConfigError(f"{path}: must have at most {LARGEST_FILE:,} bytes")
        return content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None


def read_yaml(text: str, source: str) -> Any:
    """Return what the YAML of a file holds, ``{}`` if nothing; ``${…}`` in it is left as it is.

    Args:
        text: The YAML.
        source: Where it was written, for errors.

    Raises:
        ConfigError: If it is not YAML, or beyond a limit.
    """
    with _reading_yaml(source):
        _check_depth(text)
        content = OmegaConf.load(io.StringIO(text), max_yaml_expanded_nodes=MOST_VALUES)
        return OmegaConf.to_container(content)


def read_value(text: str, source: str) -> Any:
    """Return one value that is written as YAML. All else is as in :func:`read_yaml`."""
    with _reading_yaml(source, lines=False):
        _check_depth(text)
        content: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))
        return content["value"]


@contextmanager
def _reading_yaml(source: str, *, lines: bool = True) -> Iterator[None]:
    """Return a context in which every error is a ConfigError with the source and the line."""
    try:
        yield
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark and lines else ""
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise ConfigError(f"{source}{line}: not valid YAML: {problem}") from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{source}: {said(error)}") from None
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    except OSError:  # OmegaConf's, of a file that is a single number
        raise ConfigError(f"{source}: must hold 'key: value' pairs") from None
    except Exception as error:  # yaml's constructors raise errors of any type
        problem = said(error) if isinstance(error, ValueError) else "a value does not fit its tag"
        raise ConfigError(f"{source}: not valid YAML: {problem}") from None


def _check_depth(text: str) -> None:
    """Refuse text that is nested too deeply for the recursive parser.

    Long expressions with references, which OmegaConf would parse, are refused as well.
    """
    depth = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ConfigError(f"sections and lists must be nested at most {DEEPEST} deep")
        if isinstance(event, yaml.ScalarEvent) and "${" in event.value:
            _check_length(event.value)


def _check_length(text: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise ConfigError(
            f"must have at most {LONGEST_TEXT:,} characters, as '${{' is in it, got {len(text):,}"
        )


def said(error: Exception) -> str:
    """Return an error's message on one line, with the key where OmegaConf knows it."""
    key = getattr(error, "full_key", None)
    message = str(error).partition("\n")[0].partition("; use sys.set_int_max_str_digits")[0]
    return (f"{key}: " if key else "") + (message or type(error).__name__)


def as_plain(value: Any, source: str, *, check: bool = True) -> Any:
    """Return nested mappings, sequences, dataclasses or OmegaConf's containers as plain values.

    Args:
        value: The value.
        source: Where it was written, for errors.
        check: Whether to refuse expressions other than references.

    Returns:
        Dictionaries, lists and plain values; anything else as it is, for the schema to refuse.
        References are absolute. They are followed only in OmegaConf's containers, from their root.

    Raises:
        ConfigError: If it exceeds a limit, or has another expression than references.
    """
    count = 0

    def take(value: Any, place: _Place) -> Any:
        nonlocal count
        count += 1
        if count > MOST_VALUES or len(place) > DEEPEST:
            raise ConfigError(
                f"{source}: must have at most {MOST_VALUES:,} values, nested at most {DEEPEST} deep"
            )
        if OmegaConf.is_config(value):
            value = _followed(value, source)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        if isinstance(value, Mapping):
            return {key: take(entry, (*place, key)) for key, entry in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            return [take(entry, (*place, index)) for index, entry in enumerate(value)]
        try:
            return _plain_value(value, place, check)
        except ConfigError as error:
            raise ConfigError(f"{source}: {name_of(place)} {error}") from None

    return take(value, ())


def _followed(node: Any, source: str) -> Any:
    """Return a container of OmegaConf's, which may be part of a larger one, as plain values."""
    root = node
    place: list[Any] = []
    while (above := root._get_parent()) is not None:
        place.insert(0, root._key())
        root = above
    try:
        content = as_plain(OmegaConf.to_container(root), source, check=False)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{source}: {said(error)}") from None
    try:
        return References(content).within(tuple(key for key in place if key is not None))
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _plain_value(value: Any, place: _Place, check: bool) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        if abs(int(value)) > LARGEST_INT:
            raise ConfigError(f"must be from -2**63 + 1 to 2**63 - 1, got {shown(value)}")
        return int(value)
    if isinstance(value, Real):
        try:
            return float(value)
        except OverflowError:
            raise ConfigError(f"must be a number that a float holds, got {shown(value)}") from None
    if not isinstance(value, str):
        return value
    text = str.__str__(value)
    if "${" not in text:
        return text
    _check_length(text)
    if check:
        _check_references(text)
    return _REFERENCE.sub(lambda match: f"${{{_absolute(match, place)}}}", text)


def _check_references(text: str) -> None:
    """Refuse a string with an expression other than references.

    An escaped expression is refused too: OmegaConf removes the backslash, and the next reader
    would evaluate the rest.
    """
    if "${" in _REFERENCE.sub("", text) or "\\${" in text:
        raise ConfigError(
            "may refer to other keys, as '${retina.side}', and to nothing else, "
            f"got {shown(text)}"
        )


def _absolute(match: re.Match[str], place: _Place) -> str:
    """Return the key that a reference at a place refers to, from the top."""
    dots, key = match.groups()
    above = place[: max(len(place) - len(dots), 0)] if dots else ()
    return ".".join((*map(str, above), key))


def name_of(place: _Place) -> str:
    """Return the name of a value, as ``backbone.k[0]``."""
    name = ""
    for part in place:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else str(part)
    return name or "it"


class References:
    """Plain values whose references are followed on lookup.

    Args:
        content: Plain values (:func:`as_plain`).
    """

    def __init__(self, content: Mapping[Any, Any]):
        self.content = content
        self._known: dict[_Place, Any] = {}
        self._count = 0

    def at(self, place: _Place, trail: tuple[_Place, ...] = ()) -> Any:
        """Return the value at a place, with a reference followed; values in it may be references.

        Args:
            place: The keys and indices that lead to it.
            trail: The places of the references that led here.

        Raises:
            KeyError: If there is no such place.
            ConfigError: If a reference has no target, refers to itself, or is another expression.
        """
        if not place:
            return self.content
        if place not in self._known:
            value = _entry(self.at(place[:-1], trail), place[-1])
            if isinstance(value, str) and "${" in value:
                value = self._follow(value, place, trail)
            self._known[place] = value
        return self._known[place]

    def within(self, place: _Place = ()) -> Any:
        """Return the value at a place, with all references in it followed.

        Raises:
            KeyError, ConfigError: As :meth:`at`; also if there are too many values then.
        """
        return self._within(self.at(place), place)

    def _within(self, value: Any, place: _Place) -> Any:
        self._count += 1
        if self._count > MOST_VALUES or len(place) > DEEPEST:
            raise ConfigError(
                f"must have at most {MOST_VALUES:,} values, nested at most {DEEPEST} deep, once "
                f"references are followed; {name_of(place)} goes beyond that"
            )
        if isinstance(value, str) and "${" in value:
            value = self.at(place)
        if isinstance(value, dict):
            return {key: self._within(entry, (*place, key)) for key, entry in value.items()}
        if isinstance(value, list):
            return [self._within(entry, (*place, index)) for index, entry in enumerate(value)]
        return value

    def _follow(self, text: str, place: _Place, trail: tuple[_Place, ...]) -> Any:
        """Return the value of a string with references."""
        name = name_of(place)
        if place in trail:
            loop = " → ".join(map(name_of, (*trail[trail.index(place) :], place)))
            raise ConfigError(f"{name} refers to itself: {loop}")
        if len(trail) > DEEPEST:
            raise ConfigError(f"{name} lies at the end of more than {DEEPEST} references")

        def target(match: re.Match[str]) -> Any:
            try:
                value = self.at(tuple(re.findall(r"\w[\w-]*", match[2])), (*trail, place))
            except KeyError:
                raise ConfigError(f"{name} refers to {match[2]}, which does not exist") from None
            if value == "???":
                raise ConfigError(f"{name} refers to {match[2]}, which must be given a value")
            return value

        def words(match: re.Match[str]) -> str:
            value = target(match)
            if isinstance(value, (dict, list)):
                raise ConfigError(f"{name} refers within text to {match[2]}, which is no value")
            return str(value)

        try:
            _check_references(text)
        except ConfigError as error:
            raise ConfigError(f"{name} {error}") from None
        if whole := _REFERENCE.fullmatch(text):
            return target(whole)
        filled = _REFERENCE.sub(words, text)
        if "${" in filled or len(filled) > LONGEST_TEXT:
            raise ConfigError(
                f"{name} must have at most {LONGEST_TEXT:,} characters, and no '${{', once "
                "references are filled in"
            )
        return filled


def _entry(value: Any, key: Any) -> Any:
    """Return the entry of a mapping or list at a key or index, or raise a KeyError."""
    if isinstance(value, dict) and key in value:
        return value[key]
    if isinstance(value, list) and str(key).isdecimal() and int(key) < len(value):
        return value[int(key)]
    raise KeyError(key)
