"""Checks of arguments, so that every error names the argument, the value and what is allowed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any


def positive_int(name: str, value: Any) -> int:
    """Return ``value`` as an int, or say that ``name`` must be a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number of at least 1, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return int(value)


def positive_float(name: str, value: Any) -> float:
    """Return ``value`` as a float, or say that ``name`` must be finite and positive."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a finite number above 0, got {value!r}")
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be finite and above 0, got {value}")
    return number


def fraction(name: str, value: Any) -> float:
    """Return ``value`` as a float, or say that ``name`` must lie in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number from 0 to 1, got {value!r}")
    number = float(value)
    if not 0 <= number <= 1:
        raise ValueError(f"{name} must be from 0 to 1, got {value}")
    return number


def one_of(name: str, value: Any, allowed: Iterable[str]) -> str:
    """Return ``value``, or say which values ``name`` may have and which of them is nearest."""
    allowed = sorted(allowed)
    if value not in allowed:
        hint = nearest(value, allowed)
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}"
            + (f" (did you mean {hint!r}?)" if hint else "")
        )
    return str(value)


def nearest(word: Any, known: Iterable[str]) -> str | None:
    """Return the known word that ``word`` most likely meant, if any comes close."""
    matches = difflib.get_close_matches(str(word), list(known), n=1)
    return matches[0] if matches else None
