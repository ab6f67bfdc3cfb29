"""The words of the command line: commands, arguments, options, and what of them goes together."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from fovigraph import __version__
from fovigraph._checks import shown
from fovigraph.cli.errors import UserError
from fovigraph.cli.output import say

LARGEST_SEED = 2**63 - 1

DESCRIPTION = "Foveated vision as graph neural networks."

CONFIG = "fovi_alexnet"

CONFIG_HELP = "a configuration's name, its YAML file, or the folder of a saved model"

KINDS = {
    "sampling": "where the retina samples, and how densely",
    "manifold": "the cortical surface (--out FILE.html: to be turned with the mouse)",
    "kernel-map": "how neighbours fall into the cells of a kernel",
    "receptive-field": "what one unit sees, level by level",
    "fields": "the receptive fields of a level, as ellipses",
    "field-sizes": "the diameter of fields against eccentricity",
    "effective-field-sizes": "the same, of the fields that gradients show",
    "filters": "the filters of a convolution",
    "filter-in-field": "a filter, as it lies in the visual field",
    "samples": "what the retina keeps of a photograph",
    "rebuilt": "the photograph, rebuilt from the samples",
    "fixations": "where the network looks",
    "activations": "what a level computes of a photograph, on its nodes",
    "pyramid": "the levels and steps (--out FILE.dot or FILE.graphml: as a graph)",
}
"""What ``plot`` draws."""

TAKES: dict[str, tuple[str, ...]] = {
    "sampling": ("color",),
    "manifold": ("color",),
    "kernel-map": ("level",),
    "receptive-field": ("level", "unit", "space", "binary", "image", "fixation"),
    "fields": ("level",),
    "field-sizes": (),
    "effective-field-sizes": ("image", "fixation", "seed"),
    "filters": ("level", "seed"),
    "filter-in-field": ("level", "channel", "seed"),
    "samples": ("image", "fixation"),
    "rebuilt": ("image", "fixation"),
    "fixations": ("image", "seed"),
    "activations": ("level", "space", "image", "fixation", "seed"),
    "pyramid": ("level", "unit"),
}
"""The options of ``plot`` that change a kind of picture; the others are refused."""

DEFAULTS = {
    "channel": 0,
    "fixation": (0.5, 0.5),
    "space": "visual",
    "color": "eccentricity",
    "binary": False,
    "seed": 0,
}
"""What an option of ``plot`` or ``explore`` is if it is not given."""

OVERRIDE_HELP = "change the configuration, as fixation.count=2"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")

    def _print_message(self, message: str, file: Any = None) -> None:
        say(message, end="")  # which argparse would do without a look at errors


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments of a command line, the program's own if ``None``.

    Raises:
        UserError: If it is wrong.
        SystemExit: After ``--help`` and ``--version``.
    """
    args, rest = _parser().parse_known_args(argv)
    # argparse takes overrides for unknown where an option stands before them.
    unknown = [word for word in rest if word.startswith("-")]
    if unknown:
        raise UserError(f"unknown option {shown(unknown[0])} (see fovigraph {args.command} --help)")
    if rest and args.command == "convert":
        raise UserError(f"too many arguments: {shown(rest[0])} (see fovigraph convert --help)")
    args.overrides = [*getattr(args, "overrides", []), *rest]
    _refuse_idle(args)
    for option, value in DEFAULTS.items():
        if getattr(args, option, value) is None:
            setattr(args, option, value)
    return args


def _refuse_idle(args: argparse.Namespace) -> None:
    """Refuse options that would do nothing."""
    given = [name for name in (*DEFAULTS, "level", "unit", "image") if _is_given(args, name)]
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
    if args.command == "explore" and args.image is None:
        for name in ("fixations", "seed"):
            if _is_given(args, name):
                raise UserError(f"argument --{name}: needs a photograph, --image IMAGE")
    if args.command == "convert" and args.revision is not None and os.path.isdir(args.source):
        raise UserError(
            f"argument --revision: is of a repository on the Hub, and {args.source} is a folder"
        )


def _is_given(args: argparse.Namespace, option: str) -> bool:
    return getattr(args, option, None) is not None


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
    explore = commands.add_parser(
        "explore",
        help="a web page in which every unit that is pointed at shows what it sees",
        description="Write one HTML file, which needs no network, to explore receptive fields in.",
        allow_abbrev=False,
    )
    explore.add_argument("config", metavar="CONFIG", help=CONFIG_HELP)
    plot = commands.add_parser(
        "plot",
        help="one picture of a network, of a kind that you choose",
        description="Draw a picture of a network.",
        epilog=_kinds_text(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_plot_options(plot)
    convert = commands.add_parser(
        "convert",
        help="a network of the fovi package to a folder of ours, or back",
        description="Convert a saved network from the fovi package's format to ours, or back.",
        allow_abbrev=False,
    )
    convert.add_argument("source", metavar="SRC", help="a folder, or an id on the Hugging Face Hub")
    convert.add_argument("destination", metavar="DST", help="the folder to make")
    convert.add_argument("--to-upstream", action="store_true", help="from ours to fovi's")
    convert.add_argument("--revision", metavar="REV", help="branch, tag or commit on the Hub")
    train = commands.add_parser(
        "train",
        help="train a network",
        description="Train a network by a recipe: a configuration that may also say what to learn "
        "from, and how. Ctrl-C stops it after the step that is under way, and saves it.",
        allow_abbrev=False,
    )
    _add_train_options(train)
    evaluation = commands.add_parser(
        "eval",
        help="how well a trained network tells classes, and what that costs",
        description="Evaluate a network on labelled images; write a web page and its numbers.",
        allow_abbrev=False,
    )
    _add_eval_options(evaluation)
    for command in (explore, plot):
        command.add_argument("--image", metavar="IMAGE", help="a photograph to look at")
    for command in (look, demo, plot):
        command.add_argument(
            "--config", default=CONFIG, metavar="CONFIG", help=f"{CONFIG_HELP} (default: {CONFIG})"
        )
    for command in (look, demo, explore):
        command.add_argument("--fixations", type=_count, metavar="N", help="how often to look")
    for command in (look, demo, explore, plot, evaluation):
        command.add_argument(
            "--seed", type=_seed, metavar="S", help="of all random numbers (default: 0)"
        )
    _add_out(look, "look")
    _add_out(demo, "demo")
    _add_out(evaluation, "evaluation")
    _add_out_file(explore, "explorer.html")
    _add_out_file(plot, None)
    for command in (info, look, demo, explore, plot, train, evaluation):
        command.add_argument(
            "overrides", nargs="*", default=[], metavar="KEY=VALUE", help=OVERRIDE_HELP
        )
    return parser


def _add_plot_options(plot: argparse.ArgumentParser) -> None:
    plot.add_argument("kind", metavar="KIND", choices=KINDS, help="what to draw: see below")
    plot.add_argument("--level", type=_level, metavar="L", help="a level, by name or index")
    plot.add_argument("--unit", type=_seed, metavar="U", help="a unit's index within its level")
    plot.add_argument("--channel", type=_seed, metavar="C", help="of a filter (default: 0)")
    plot.add_argument(
        "--fixation",
        type=float,
        nargs=2,
        metavar=("ROW", "COLUMN"),
        help="where to look, as fractions of the photograph (default: 0.5 0.5)",
    )
    plot.add_argument(
        "--space",
        choices=("visual", "cortical"),
        help="draw in the visual field or on the flattened cortex",
    )
    plot.add_argument(
        "--color",
        choices=("eccentricity", "polar_angle"),
        help="what sampling and manifold are coloured by",
    )
    plot.add_argument(
        "--binary",
        action="store_true",
        default=None,
        help="which nodes a receptive field has, not by how many paths",
    )


def _add_train_options(train: argparse.ArgumentParser) -> None:
    train.add_argument("config", metavar="CONFIG", help="a recipe's name or its YAML file")
    train.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where the run and the model are kept (default: runs/CONFIG)",
    )
    train.add_argument("--resume", action="store_true", help="go on with the run in that folder")
    train.add_argument(
        "--strict", action="store_true", help="stop at a broken image, do not leave it out"
    )


def _add_eval_options(evaluation: argparse.ArgumentParser) -> None:
    evaluation.add_argument(
        "model", metavar="MODEL", help="the folder of a saved model, or an id on the Hub"
    )
    evaluation.add_argument(
        "data",
        metavar="DATA",
        help="digits; a folder of images by class, or of parquet files; or an id on the Hub",
    )
    evaluation.add_argument(
        "--fixations",
        type=_count,
        default=20,
        metavar="N",
        help="how often to look at an image (default: 20)",
    )
    evaluation.add_argument(
        "--split", metavar="NAME", help="of the data (default: the one to test on)"
    )
    evaluation.add_argument(
        "--size",
        type=_count,
        metavar="PIXELS",
        help="side of the images (default: as in training, or 64)",
    )
    evaluation.add_argument(
        "--limit", type=_count, metavar="N", help="take only N images, at random"
    )
    evaluation.add_argument(
        "--batch-size", type=_count, default=64, metavar="N", help="images at once (default: 64)"
    )
    evaluation.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="what computes (default: a GPU if there is one)",
    )
    evaluation.add_argument(
        "--json", action="store_true", help="print the numbers instead of a table"
    )


def _kinds_text() -> str:
    width = max(map(len, KINDS))
    lines = ["kinds of picture, and the options that change them:"]
    for kind, shows in KINDS.items():
        lines.append(f"  {kind:<{width}}  {shows}")
        if TAKES[kind]:
            lines.append(" " * (width + 4) + " ".join(f"--{option}" for option in TAKES[kind]))
    return "\n".join(lines)


def _add_out_file(command: argparse.ArgumentParser, default: str | None) -> None:
    command.add_argument(
        "--out",
        type=Path,
        default=None if default is None else Path(default),
        metavar="FILE",
        help=f"file to write (default: {default or 'KIND.png'})",
    )


def _add_out(command: argparse.ArgumentParser, folder: str) -> None:
    command.add_argument(
        "--out",
        type=Path,
        default=Path(folder),
        metavar="DIR",
        help=f"folder to write to, made if need be (default: {folder})",
    )


def _level(text: str) -> int | str:
    return _seed(text) if text.isascii() and text.isdigit() else text


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
        raise argparse.ArgumentTypeError(f"must be a whole number {allowed}, got {shown(text)}")
    return value
