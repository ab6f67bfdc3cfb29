"""Upstream's configurations: looked up key by key, with errors that name the key."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from numbers import Integral, Real
from typing import Any, NoReturn

from omegaconf import DictConfig, OmegaConf

from fovigraph._checks import instance, nearest, shown
from fovigraph._plain import ConfigError, References, as_plain

_ABSENT: Any = object()


class UpstreamConfig:
    """Upstream's nested mappings, read key by key.

    Values may refer to other keys (``${section.key}``), which is followed where they are looked up.

    Args:
        content: Nested mappings.
        source: Where they were read, for errors.
    """

    def __init__(self, content: Mapping[Any, Any], source: str = "config"):
        if not isinstance(content, Mapping):
            raise TypeError(f"content must be nested mappings, got {shown(content)}")
        instance("source", source, str, allowed="a string")
        stated = OmegaConf.to_container(content) if isinstance(content, DictConfig) else content
        # Strings that OmegaConf would evaluate are refused only when they are looked up: published
        # configurations have some in keys that are not needed here.
        self.content: dict[Any, Any] = as_plain(stated, source, check=False)
        self.source = source
        self.used: set[str] = set()
        self._references = References(self.content)

    def get(self, key: str, default: Any = _ABSENT) -> Any:
        """Return the value of a dotted key.

        Raises:
            ConfigError: If it is absent and there is no default, or refers to what does not exist
                or to anything but other keys.
        """
        self.used.add(key)
        try:
            value = self._references.at(tuple(key.split(".")))
        except ConfigError as error:
            self.fail(key, f"cannot be resolved: {error}")
        except KeyError:
            value = default
        if value is _ABSENT:
            self.fail(key, "is missing")
        if value == "???":
            self.fail(key, "cannot be resolved: it must be given a value, got '???'")
        return value

    def number(self, key: str, default: Any = _ABSENT) -> float:
        """Return the value of a key that must be a number."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, Real):
            self.fail(key, f"must be a number, got {shown(value)}")
        if not math.isfinite(value):
            self.fail(key, f"must be finite, got {value}")
        return float(value)

    def whole(self, key: str, default: Any = _ABSENT) -> int:
        """Return the value of a key that must be a whole number."""
        value = self.number(key, default)
        if not value.is_integer():
            self.fail(key, f"must be a whole number, got {value:g}")
        return int(value)

    def flag(self, key: str, default: Any = _ABSENT) -> bool:
        """Return the value of a key that must be true or false (upstream writes 1 and 0)."""
        value = self.get(key, default)
        if not isinstance(value, Integral) or value not in (0, 1):
            self.fail(key, f"must be 0 or 1, got {shown(value)}")
        return bool(value)

    def choice(self, key: str, allowed: Mapping[Any, Any], default: Any = _ABSENT) -> Any:
        """Return the entry of ``allowed`` for the value of a key."""
        value = self.get(key, default)
        if isinstance(value, (list, dict)) or value not in allowed:
            names = ", ".join(repr(name) for name in allowed)
            hint = nearest(value, [name for name in allowed if isinstance(name, str)])
            self.fail(
                key,
                f"must be one of {names} to be loaded here, got {shown(value)}"
                + (f" (did you mean {hint!r}?)" if hint else ""),
            )
        return allowed[value]

    def fail(self, key: str, problem: str) -> NoReturn:
        """Raise a :class:`ConfigError` about a key."""
        raise ConfigError(f"{self.source}: {key} {problem}")

    def not_looked_at(self, irrelevant: Iterable[str]) -> list[str]:
        """Return keys that were not looked up and that no pattern of ``irrelevant`` matches."""
        patterns = tuple(irrelevant)
        return [
            key
            for key in _leaves(self.content)
            if not any(key == used or key.startswith(f"{used}.") for used in self.used)
            and not any(fnmatchcase(key, p) or p == f"{key}.*" for p in patterns)  # empty ones
        ]


def reverse(mapping: Mapping[Any, Any], name: str, value: Any) -> Any:
    """Return the first of upstream's values for ``value``, which our key ``name`` has."""
    for theirs, ours in mapping.items():
        if ours == value:
            return theirs
    allowed = ", ".join(repr(ours) for ours in dict.fromkeys(mapping.values()))
    raise ConfigError(f"{name} must be one of {allowed} to be written for upstream, got {value!r}")


def only(name: str, value: Any, allowed: Any) -> None:
    """Refuse a value of our key ``name`` other than the only one that upstream has."""
    if value != allowed:
        raise ConfigError(f"{name} must be {allowed!r} to be written for upstream, got {value!r}")


def _leaves(content: Any, prefix: str = "") -> Iterable[str]:
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
