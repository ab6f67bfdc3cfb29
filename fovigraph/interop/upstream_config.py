"""A configuration as upstream writes it: looked up key by key, with errors that name the key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from numbers import Integral, Real
from typing import Any, NoReturn

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fovigraph._checks import nearest
from fovigraph.config import ConfigError

_ABSENT: Any = object()


class UpstreamConfig:
    """Upstream's nested mappings, read key by key.

    Values may be interpolations (``${…}``): only those that are looked up are resolved, as a
    published configuration also names folders of the machine that it was trained on.

    Args:
        content: Nested mappings.
        source: Where they were read, for errors.
    """

    def __init__(self, content: Mapping[Any, Any], source: str = "config"):
        self.content = (
            content if isinstance(content, DictConfig) else OmegaConf.create(dict(content))
        )
        self.source = source
        self.used: set[str] = set()

    def get(self, key: str, default: Any = _ABSENT) -> Any:
        """Return the value of a dotted key.

        Raises:
            ConfigError: If it is absent and there is no default, or it cannot be resolved.
        """
        self.used.add(key)
        try:
            value = OmegaConf.select(
                self.content,
                key,
                default=_ABSENT,
                throw_on_missing=True,
                throw_on_resolution_failure=True,
            )
        except OmegaConfBaseException as error:
            self.fail(key, f"cannot be resolved: {str(error).partition(chr(10))[0]}")
        if value is _ABSENT:
            # `select` takes null for absent.
            if self._has(key):
                return None
            if default is _ABSENT:
                self.fail(key, "is missing")
            return default
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value

    def _has(self, key: str) -> bool:
        section, _, name = key.rpartition(".")
        node = OmegaConf.select(self.content, section) if section else self.content
        return isinstance(node, DictConfig) and name in node.keys()  # noqa: SIM118 – null is a value

    def number(self, key: str, default: Any = _ABSENT) -> float:
        """Return the value of a key that must be a number."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, Real):
            self.fail(key, f"must be a number, got {value!r}")
        return float(value)

    def whole(self, key: str, default: Any = _ABSENT) -> int:
        """Return the value of a key that must be a whole number."""
        value = self.number(key, default)
        if not value.is_integer():
            self.fail(key, f"must be a whole number, got {value!r}")
        return int(value)

    def flag(self, key: str, default: Any = _ABSENT) -> bool:
        """Return the value of a key that must be true or false (upstream writes 1 and 0)."""
        value = self.get(key, default)
        if not isinstance(value, Integral) or value not in (0, 1):
            self.fail(key, f"must be 0 or 1, got {value!r}")
        return bool(value)

    def choice(self, key: str, allowed: Mapping[Any, Any], default: Any = _ABSENT) -> Any:
        """Return what one of the ``allowed`` values of a key stands for."""
        value = self.get(key, default)
        if isinstance(value, list) or value not in allowed:
            names = ", ".join(repr(name) for name in allowed)
            hint = nearest(value, [name for name in allowed if isinstance(name, str)])
            self.fail(
                key,
                f"must be one of {names} to be loaded here, got {value!r}"
                + (f" (did you mean {hint!r}?)" if hint else ""),
            )
        return allowed[value]

    def fail(self, key: str, problem: str) -> NoReturn:
        """Raise a :class:`ConfigError` about a key."""
        raise ConfigError(f"{self.source}: {key} {problem}")

    def not_looked_at(self, irrelevant: Iterable[str]) -> list[str]:
        """Return the keys that nothing has asked for and no pattern of ``irrelevant`` matches."""
        patterns = tuple(irrelevant)
        return [
            key
            for key in _leaves(OmegaConf.to_container(self.content, resolve=False))
            if not any(key == used or key.startswith(f"{used}.") for used in self.used)
            and not any(fnmatchcase(key, pattern) for pattern in patterns)
        ]


def reverse(mapping: Mapping[Any, Any], name: str, value: Any) -> Any:
    """Return the first of upstream's values for one of ours, the value of our key ``name``."""
    for theirs, ours in mapping.items():
        if ours == value:
            return theirs
    allowed = ", ".join(repr(ours) for ours in dict.fromkeys(mapping.values()))
    raise ConfigError(f"{name} must be one of {allowed} to be written for upstream, got {value!r}")


def only(name: str, value: Any, allowed: Any) -> None:
    """Refuse a value of our key ``name`` unless it is the one that upstream can have."""
    if value != allowed:
        raise ConfigError(f"{name} must be {allowed!r} to be written for upstream, got {value!r}")


def _leaves(content: Any, prefix: str = "") -> Iterable[str]:
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
