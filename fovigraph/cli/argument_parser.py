"""argparse with short errors that suggest the nearest word."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from fovigraph._checks import nearest, shown
from fovigraph.cli.errors import UserError
from fovigraph.cli.output import complain, say

MODEL = "fovi_cifar10"
"""The network of a command that is given none."""


class Parser(argparse.ArgumentParser):
    """An argument parser that raises :class:`UserError`, and names the nearest valid word."""

    def __init__(self, **options: Any):
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**options)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")

    def _print_message(self, message: str, file: Any = None) -> None:
        say(message, end="")  # argparse ignores errors of the stream

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            allowed = ", ".join(map(repr, action.choices))
            message = f"must be one of {allowed}, got {shown(value)}{meant(value, action.choices)}"
            raise argparse.ArgumentError(action, message)

    @property
    def options(self) -> list[str]:
        """Every option, in all its spellings."""
        shown = (act for act in self._actions if act.help != argparse.SUPPRESS)
        return [option for action in shown for option in action.option_strings]


def meant(word: Any, known: Any) -> str:
    """Return what an error says of the known word nearest to a misspelt one."""
    hint = nearest(word, known)
    return f" (did you mean {hint!r}?)" if hint else ""


class Renamed(argparse.Action):
    """The old name of an option: it still works, with a warning."""

    def __call__(self, parser: Any, namespace: Any, value: Any, option: str | None = None) -> None:
        complain(f"fovigraph: {option} is deprecated: use --model {value}")
        setattr(namespace, self.dest, value)
