"""Schemas of configurations: frozen dataclasses whose fields are checked when they are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin, get_type_hints

from fovigraph._checks import shown

S = TypeVar("S", bound="Section")


class Section:
    """A section of a configuration, or a whole one: the base class of schemas.

    A schema is a frozen dataclass whose fields have defaults. The type of a field is ``int``,
    ``float``, ``str`` or ``bool``, a ``Sequence``, ``list`` or ``tuple`` of one of them, another
    schema, or a union of these and ``None``. Values are converted to the type of their field where
    that changes nothing (1 to 1.0, an array's number to Python's); a sequence becomes a new list.

    Raises:
        TypeError: If a value is not of its field's type. The message names the key and the value.

    Attributes:
        SECTION: The section's key, with which errors begin; empty for a whole configuration.
        IGNORED: Keys of files and mappings that another schema is for.

    Example:
        >>> from dataclasses import dataclass, replace
        >>> from fovigraph._schema import Section
        >>> @dataclass(frozen=True)
        ... class LensConfig(Section):
        ...     SECTION = "lens"
        ...     aperture: float = 2.8
        >>> replace(LensConfig(), aperture=4)
        LensConfig(aperture=4.0)
    """

    SECTION: ClassVar[str] = ""
    IGNORED: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name, kind in kinds(type(self)).items():
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, typed(value, kind))
            except TypeError:
                key = f"{self.SECTION}.{name}" if self.SECTION else name
                raise TypeError(f"{key} must be {described(kind)}, got {shown(value)}") from None
        self.check()

    def check(self) -> None:
        """Raise a ValueError if values, each of the type of its field, are not allowed."""

    @classmethod
    def upgrade(cls, content: Mapping[Any, Any]) -> Mapping[Any, Any]:
        """Return a mapping with keys of earlier releases replaced by the present ones."""
        return content

    @classmethod
    def variants(cls) -> Mapping[str, type[Section]]:
        """Return the possible schemas of the section by its key ``name``; none: this one only."""
        return {}


def kinds(schema: type[Section]) -> dict[str, Any]:
    """Return the types of a schema's fields, by name."""
    hints = get_type_hints(schema)
    return {field.name: hints[field.name] for field in dataclasses.fields(schema)}  # type: ignore[arg-type]


def is_section(kind: Any) -> bool:
    """Return whether a field's type is a schema."""
    return isinstance(kind, type) and issubclass(kind, Section)


def variant(schema: type[Section], content: Mapping[str, Any]) -> type[Section]:
    """Return the schema of a complete section: ``schema``, or its variant of the section's name."""
    return schema.variants()[content["name"]] if schema.variants() else schema


def build(schema: type[S], content: Mapping[str, Any]) -> S:
    """Return the dataclass of a complete section, given as plain values.

    Raises:
        TypeError, ValueError: If it does not fit the schema.
    """
    values = {
        name: build(variant(kind, content[name]), content[name])
        if is_section(kind)
        else content[name]
        for name, kind in kinds(schema).items()
    }
    return schema(**values)


def typed(value: Any, kind: Any, *, refers: bool = False) -> Any:
    """Return a value converted to the type of a field.

    Args:
        value: A plain value, or a section.
        kind: The field's type.
        refers: Whether a string may stand for another value: ``${key}``, or ``???`` for one that
            is missing.

    Raises:
        TypeError: If it is of another type, without a message. (Neither "3" nor 3.0 nor True is a
            whole number.)
    """
    if is_section(kind):
        if not isinstance(value, kind):
            raise TypeError
        return value
    if refers and isinstance(value, str) and ("${" in value or value == "???"):
        return value
    origin, options = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        for option in options:
            with suppress(TypeError):
                return typed(value, option, refers=refers)
        raise TypeError
    if origin is not None:
        if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
            raise TypeError
        entries = [typed(entry, options[0], refers=refers) for entry in value]
        return tuple(entries) if origin is tuple else entries
    if kind in (int, float):
        number = Integral if kind is int else Real
        if not isinstance(value, number) or isinstance(value, bool):
            raise TypeError
        return kind(value)
    if not isinstance(value, kind):
        raise TypeError
    return value


def described(kind: Any) -> str:
    """Return a field's type in words."""
    words = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(described(option) for option in get_args(kind))
    if get_origin(kind) is not None:
        return f"a list, each entry {described(get_args(kind)[0])}"
    if is_section(kind):
        return "a section of 'key: value' pairs"
    return "null" if kind is NoneType else words.get(kind, str(kind))


def keys(content: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of nested mappings, those of sections too."""
    for key, value in content.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from keys(value, f"{prefix}{key}.")
