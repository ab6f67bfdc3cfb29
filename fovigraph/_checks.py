"""Checks of arguments, so that every error names the argument, the value and what is allowed."""

from __future__ import annotations

import difflib
import errno
import math
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

MAX_NAME_BYTES = 255
"""The longest name of a file or folder that file systems have."""


def positive_int(name: str, value: Any, most: int | None = None) -> int:
    """Return ``value`` as an int, or say that ``name`` must be a whole number of at least 1.

    Args:
        name: What errors call it.
        value: The value.
        most: The largest value that is allowed.
    """
    return whole_number(name, value, 1, most)


def whole_number(name: str, value: Any, least: int = 0, most: int | None = None) -> int:
    """Return ``value`` as an int, or say that ``name`` must be a whole number from a range.

    Args:
        name: What errors call it.
        value: The value.
        least, most: The smallest and the largest value that are allowed.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number of at least {least}, got {shown(value)}")
    number = int(value)
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {shown(value)}")
    if most is not None and number > most:
        raise ValueError(f"{name} must be at most {most}, got {shown(value)}")
    return number


def positive_float(name: str, value: Any, least: float = 0.0, most: float = math.inf) -> float:
    """Return ``value`` as a float, or say that ``name`` must be finite and positive.

    Args:
        name: What errors call it.
        value: The value.
        least, most: The smallest and the largest value that are allowed.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a finite number above 0, got {shown(value)}")
    number = _as_float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be finite and above 0, got {shown(value)}")
    if not least <= number <= most:
        raise ValueError(f"{name} must be from {least:g} to {most:g}, got {shown(value)}")
    return number


def finite_float(name: str, value: Any) -> float:
    """Return ``value`` as a float, or say that ``name`` must be a finite number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a finite number, got {shown(value)}")
    number = _as_float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {shown(value)}")
    return number


def fraction(name: str, value: Any) -> float:
    """Return ``value`` as a float, or say that ``name`` must lie in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number from 0 to 1, got {shown(value)}")
    number = _as_float(value)
    if not 0 <= number <= 1:
        raise ValueError(f"{name} must be from 0 to 1, got {shown(value)}")
    return number


def flag(name: str, value: Any) -> bool:
    """Return ``value``, or say that ``name`` must be True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return value


def one_of(name: str, value: Any, allowed: Iterable[str]) -> str:
    """Return ``value``, or say which values ``name`` may have and which of them is nearest."""
    allowed = sorted(allowed)
    if isinstance(value, str) and value in allowed:
        return str(value)
    choice = f"{name} must be one of {', '.join(map(repr, allowed))}, got {shown(value)}"
    if not isinstance(value, str):
        raise TypeError(choice)
    hint = nearest(value, allowed)
    raise ValueError(choice + (f" (did you mean {hint!r}?)" if hint else ""))


def instance(name: str, value: Any, kind: type[T], *, allowed: str | None = None) -> T:
    """Return ``value``, or say that ``name`` must be of a type.

    Args:
        name: What errors call it.
        value: The value.
        kind: The type.
        allowed: What errors say is allowed, ``"a KNNGraph"``; made of the type's name if ``None``.
    """
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        wanted = f"{article} {kind.__name__}" if allowed is None else allowed
        raise TypeError(f"{name} must be {wanted}, got {shown(value)}")
    return value


def nearest(word: Any, known: Iterable[str]) -> str | None:
    """Return the known word that ``word`` most likely meant, if any comes close."""
    matches = difflib.get_close_matches(str(word), list(known), n=1)
    return matches[0] if matches else None


def shown(value: Any) -> str:
    """Return a value as errors show it, in one short line: of a tensor or an array, the shape."""
    if getattr(value, "shape", ()) and hasattr(value, "dtype"):
        kind = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
        return f"a {kind} of shape {list(value.shape)} and dtype {value.dtype}"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an integer of more digits than Python writes, or a class of the user's
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}…"


def _as_float(value: Real) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer that no float holds
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]


def positive_ints(name: str, values: Any, most: int | None = None) -> list[int]:
    """Return ``values`` as a list, or say that ``name`` must be whole numbers of at least 1.

    Args:
        name: What errors call it.
        values: The values.
        most: The largest value that is allowed.
    """
    return list_of(
        name, values, "whole numbers", lambda each, value: positive_int(each, value, most)
    )


def list_of(name: str, values: Any, what: str, check: Callable[[str, Any], T]) -> list[T]:
    """Return what ``check`` returns of the name and the value of every entry, or say what is wrong.

    Args:
        name: What errors call the list; its first entry is ``name[0]``.
        values: The values.
        what: What they must be a list of.
        check: Returns an entry, or raises an error.
    """
    try:
        if isinstance(values, (str, bytes, Mapping, Set)):  # no numbers, or in no order
            raise TypeError
        entries = list(values)
    except TypeError:
        raise TypeError(f"{name} must be a list of {what}, got {shown(values)}") from None
    return [check(f"{name}[{i}]", entry) for i, entry in enumerate(entries)]


def new_class(name: str, value: Any, kind: type, known_as: str, there: Any) -> None:
    """Check that a class can be registered by a name: it is of a kind, and no other has the name.

    Args:
        name: What errors call the class.
        value: The class.
        kind: What it must be a class of.
        known_as: The name.
        there: What has the name now; ``None``: nothing. The same class, defined again, may have it.

    Raises:
        TypeError, ValueError: If it cannot be.
    """
    if not (isinstance(value, type) and issubclass(value, kind)):
        raise TypeError(f"{name} must be a class of {kind.__name__}, got {shown(value)}")
    if there is not None and getattr(there, "__qualname__", None) != value.__qualname__:
        raise ValueError(f"name must be new, got {known_as!r}, which is {there}")


def positive_range(name: str, values: Sequence[float]) -> None:
    """Check that ``name`` is two finite numbers above 0, the smaller first."""
    if len(values) != 2 or not 0 < values[0] <= values[1] < math.inf:
        raise ValueError(
            f"{name} must be two numbers above 0, the smaller first, got {list(values)}"
        )


def path_of(name: str, value: Any) -> Path:
    """Return ``value`` as a path, ``~`` being the home folder, or say that ``name`` must be one."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a path (a string or os.PathLike), got {shown(value)}")
    if not text or "\0" in text:
        raise ValueError(f"{name} must be a path, got {text!r}")
    if any(len(os.fsencode(part)) > MAX_NAME_BYTES for part in Path(text).parts):
        raise ValueError(
            f"{name} must be a path of names of at most {MAX_NAME_BYTES} bytes each, "
            f"got {shown(text)}"
        )
    try:
        return Path(text).expanduser()
    except RuntimeError:  # there is no such user
        return Path(text)


def regular_file(path: str | os.PathLike[str]) -> None:
    """Check that a path is a file that can be opened without waiting for another process.

    Raises:
        FileNotFoundError: If there is nothing.
        OSError: If it is a folder, a named pipe, a socket or a device.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket"}
        kind = kinds.get(stat.S_IFMT(mode), "device")
        raise OSError(errno.EINVAL, f"not a regular file, but a {kind}", os.fspath(path))
