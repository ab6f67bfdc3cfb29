"""Names that changed: the old ones still work for one release, with a warning."""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def warn_renamed(old: str, new: str, stacklevel: int = 3) -> None:
    """Warn that ``old`` is now called ``new``, at the caller of the function that calls this."""
    warnings.warn(
        f"{old} is now called {new}; the old name goes with the next release",
        DeprecationWarning,
        stacklevel=stacklevel,
    )


def module_getattr(module: str, renamed: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a module's ``__getattr__``, which knows its public names by their old names too.

    Args:
        module: The module's ``__name__``.
        renamed: New names by old ones; both belong to the module.
    """

    def getattr_(name: str) -> Any:
        if name in renamed:
            warn_renamed(f"{module}.{name}", f"{module}.{renamed[name]}")
            return getattr(sys.modules[module], renamed[name])
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return getattr_


def moved(old: str, module: str, name: str) -> Any:
    """Warn that ``old`` is now called ``name`` in a module, import that, and return it.

    For a function that has moved to a module which imports the one it was in.
    """
    warn_renamed(old, f"{module}.{name}", stacklevel=4)
    return getattr(importlib.import_module(module), name)


def renamed_argument(old: str, new: str) -> Callable[[F], F]:
    """Let a function take its keyword argument ``new`` under the name ``old`` too."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if old in kwargs:
                if new in kwargs:
                    raise TypeError(f"{new} must be given once, got {old} as well")
                warn_renamed(f"the argument {old}", new)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate
