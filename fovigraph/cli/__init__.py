"""The command ``fovigraph``: what a network is made of, and what it sees.

Every mistake that a user can make is one line on stderr and exit status 2.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from fovigraph import __version__
from fovigraph.cli.errors import UserError

LARGEST_SEED = 2**63 - 1

DESCRIPTION = "Foveated vision as graph neural networks."

CONFIG = "fovi_alexnet"

CONFIG_HELP = "a configuration's name, its YAML file, or the folder of a saved model"

OVERRIDE_HELP = "change the configuration, as fixation.count=2"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, the program's own if ``None``, and return its exit status."""
    try:
        status = _run(_parse(argv))
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"fovigraph: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # as of `fovigraph info … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("fovigraph: interrupted", file=sys.stderr)
        return 130
    except SystemExit as done:  # argparse, after --help or --version
        return int(done.code or 0)


def _run(args: argparse.Namespace) -> int:
    # Each command imports what it needs, so that --help does not wait for it.
    if args.command == "info":
        from fovigraph.cli.info import info

        return info(args)
    from fovigraph.cli.look import look

    return look(args)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    args, rest = _parser().parse_known_args(argv)
    # argparse takes overrides for unknown where an option stands before them.
    unknown = [word for word in rest if word.startswith("-")]
    if unknown:
        raise UserError(f"unknown option {unknown[0]!r} (see fovigraph {args.command} --help)")
    args.overrides = [*args.overrides, *rest]
    return args


def _parser() -> _Parser:
    parser = _Parser(prog="fovigraph", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"fovigraph {__version__}")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=_Parser
    )

    info = commands.add_parser(
        "info",
        help="the levels of a network, with nodes, edges, parameters and FLOPs",
        description="Print a network's graph pyramid and what each level costs.",
        allow_abbrev=False,
    )
    info.add_argument("config", metavar="CONFIG", help=CONFIG_HELP)
    info.add_argument("--json", action="store_true", help="print JSON instead of a table")

    look = commands.add_parser(
        "look",
        help="look at an image, and draw what the network sees",
        description="Look at an image; write pictures of what the network sees, and its numbers.",
        allow_abbrev=False,
    )
    look.add_argument("image", metavar="IMAGE", help="an image file")
    demo = commands.add_parser(
        "demo",
        help="the same with a photograph of a cat that comes with scikit-image",
        description="Look at a photograph of a cat; needs the extra 'demo'.",
        allow_abbrev=False,
    )
    demo.set_defaults(image=None)
    for command in (look, demo):
        command.add_argument(
            "--config", default=CONFIG, metavar="CONFIG", help=f"{CONFIG_HELP} (default: {CONFIG})"
        )
        command.add_argument(
            "--fixations",
            type=_count,
            metavar="N",
            help="how often to look",
        )
        command.add_argument(
            "--seed", type=_seed, default=0, metavar="S", help="of all random numbers (default: 0)"
        )
    _add_out(look, "look")
    _add_out(demo, "demo")
    for command in (info, look, demo):
        command.add_argument(
            "overrides", nargs="*", default=[], metavar="KEY=VALUE", help=OVERRIDE_HELP
        )
    return parser


def _add_out(command: argparse.ArgumentParser, folder: str) -> None:
    command.add_argument(
        "--out",
        type=Path,
        default=Path(folder),
        metavar="DIR",
        help=f"folder to write to, made if need be (default: {folder})",
    )


def _count(text: str) -> int:
    return _whole_number(text, 1, None)


def _seed(text: str) -> int:
    return _whole_number(text, 0, LARGEST_SEED)


def _whole_number(text: str, low: int, high: int | None) -> int:
    allowed = f"of at least {low}" if high is None else f"from {low} to {high}"
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if value < low or (high is not None and value > high):
        raise argparse.ArgumentTypeError(f"must be a whole number {allowed}, got {text!r}")
    return value
