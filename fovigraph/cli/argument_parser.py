"""argparse with short errors that suggest the nearest word."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from fovigraph._checks import nearest, shown
from fovigraph.cli.errors import UserError
from fovigraph.cli.output import complain, say

MODEL = "fovi_cifar10"
"""What looks where no network is named."""


class Parser(argparse.ArgumentParser):
    """argparse's, whose errors are the user's, are short, and say what may have been meant."""

    def __init__(self, **options: Any):
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**options)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")

    def _print_message(self, message: str, file: Any = None) -> None:
        say(message, end="")  # which argparse would do without a look at errors

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            allowed = ", ".join(map(repr, action.choices))
            message = f"must be one of {allowed}, got {shown(value)}{meant(value, action.choices)}"
            raise argparse.ArgumentError(action, message)

    @property
    def options(self) -> list[str]:
        """Every option as it may be written."""
        shown = (act for act in self._actions if act.help != argparse.SUPPRESS)
        return [option for action in shown for option in action.option_strings]


def meant(word: Any, known: Any) -> str:
    hint = nearest(word, known)
    return f" (did you mean {hint!r}?)" if hint else ""


class Renamed(argparse.Action):
    """An option's old name, which still works."""

    def __call__(self, parser: Any, namespace: Any, value: Any, option: str | None = None) -> None:
        complain(f"fovigraph: {option} is deprecated: use --model {value}")
        setattr(namespace, self.dest, value)
