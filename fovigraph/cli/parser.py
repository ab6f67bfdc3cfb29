"""Parsing of a command line; options that have no effect are refused."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from fovigraph._checks import shown
from fovigraph._names import HUB_ID
from fovigraph._shipped import config_names, pretrained_names
from fovigraph.cli.argument_parser import MODEL, meant
from fovigraph.cli.commands import parsers
from fovigraph.cli.errors import UserError
from fovigraph.cli.kinds import TAKES

DEFAULTS = {
    "channel": 0,
    "fixation": (0.5, 0.5),
    "space": "visual",
    "color": "eccentricity",
    "map": "cortical",
    "binary": False,
    "device": "auto",
}
"""Defaults of options; ``plot`` refuses those that would do nothing."""

OVERRIDE = re.compile(r"[A-Za-z_]\w*(\.\w+)+=")
"""The beginning of ``KEY=VALUE``."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments of a command line, the program's own if ``None``.

    Raises:
        UserError: If an argument is not allowed.
        SystemExit: After ``--help`` and ``--version``, and without arguments.
    """
    parser, commands = parsers()
    if "_ARGCOMPLETE" in os.environ:  # shell completion
        import argcomplete

        argcomplete.autocomplete(parser)
    words = sys.argv[1:] if argv is None else list(argv)
    args, rest = parser.parse_known_args(words or ["--help"])
    # argparse also returns known positional arguments that follow an option.
    unknown = [word for word in rest if word.startswith("-") and word != "-"]
    if unknown:
        name = unknown[0].partition("=")[0]
        raise UserError(
            f"unknown option {shown(name)}{meant(name, commands[args.command].options)} "
            f"(see fovigraph {args.command} --help)"
        )
    _sort_words(args, rest)
    _refuse_idle(args)
    for option, value in DEFAULTS.items():
        if getattr(args, option, value) is None:
            setattr(args, option, value)
    if args.command in ("explore", "eval") and args.seed is None:
        args.seed = 0
    return args


def _sort_words(args: argparse.Namespace, rest: list[str]) -> None:
    """Assign positional arguments to the network, images and overrides."""
    command = args.command
    if not hasattr(args, "overrides"):
        if rest:
            raise UserError(
                f"too many arguments: {shown(rest[0])} (see fovigraph {command} --help)"
            )
        return
    optional = hasattr(args, "named_model")
    words = [args.model] if optional and args.model is not None else []
    words += [*getattr(args, "images", []), *args.overrides, *rest]
    args.overrides = words
    if not optional and command != "predict":
        return
    args.overrides = [word for word in words if OVERRIDE.match(word) and not os.path.exists(word)]
    words = [word for word in words if word not in args.overrides]
    if optional:
        args.model = words.pop(0) if words and _is_model(words, command) else None
        if args.model is not None and args.named_model is not None:
            raise UserError(
                f"a network is named twice: {shown(args.model)}, and --model {args.named_model}"
            )
        args.model = args.model or args.named_model or MODEL
    if command in ("look", "predict"):
        args.images = words
        if not words:
            raise UserError(
                f"the following arguments are required: IMAGE (see fovigraph {command} --help)"
            )
    elif words:
        raise UserError(f"too many arguments: {shown(words[0])} (see fovigraph {command} --help)")


def _is_model(words: Sequence[str], command: str) -> bool:
    """Return whether the first word names a network; it may be an image for ``look`` alone.

    There, a path with a suffix that is not YAML's is an image, and a single word is, too, unless
    it names something that exists.
    """
    first = words[0]
    if command != "look":
        return True
    if os.path.isfile(first):
        return first.lower().endswith((".yaml", ".yml"))
    exists = first in pretrained_names() or first in config_names() or os.path.isdir(first)
    is_path = "." in first.rpartition("/")[2]
    return exists or (len(words) > 1 and HUB_ID.fullmatch(first) is not None and not is_path)


def _refuse_idle(args: argparse.Namespace) -> None:
    """Refuse options that the command or kind does not use."""
    more = ("seed", "level", "unit", "image", "bins")
    given = [name for name in (*DEFAULTS, *more) if _is_given(args, name)]
    if args.command == "plot":
        takes = TAKES[args.kind]
        for name in given:
            if name not in takes:
                does = ", ".join(f"--{option}" for option in takes) or "no such option"
                raise UserError(
                    f"argument --{name}: does nothing for plot {args.kind}, which takes {does}"
                )
        if "fixation" in given and args.image is None:
            raise UserError("argument --fixation: needs a photograph, --image IMAGE")
    if args.command == "convert" and args.revision is not None and Path(args.source).is_dir():
        raise UserError(
            f"argument --revision: is of a repository on the Hub, and {args.source} is a folder"
        )


def _is_given(args: argparse.Namespace, option: str) -> bool:
    return getattr(args, option, None) is not None
