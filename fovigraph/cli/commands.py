"""The commands of ``fovigraph``, their arguments and options."""

from __future__ import annotations

import argparse
from pathlib import Path

from fovigraph import __version__
from fovigraph._checks import shown
from fovigraph._shipped import config_names, pretrained_names, recipe_names
from fovigraph.cli.argument_parser import MODEL, Parser, Renamed
from fovigraph.cli.kinds import KINDS, TAKES

LARGEST_SEED = 2**63 - 1

DESCRIPTION = "Foveated vision as graph neural networks."

MODEL_HELP = (
    "a network: the name of a trained one or of a configuration (see fovigraph --help), "
    "a YAML file, the folder of a saved network or run, or an id on the Hugging Face Hub"
)

SPACES = ("visual", "cortical", "schwartz", "v1like", "warp")
"""Where pictures are drawn; named here too, as a help text must not import what draws."""

SHELLS = ("bash", "zsh", "fish")


def parsers() -> tuple[Parser, dict[str, Parser]]:
    """Return the parser of the whole command line, and that of each command."""
    parser = Parser(prog="fovigraph", description=DESCRIPTION, epilog=_shipped_text())
    parser.add_argument("--version", action="version", version=f"fovigraph {__version__}")
    group = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=Parser
    )

    def add(name: str, short: str, description: str, epilog: str | None = None) -> Parser:
        command = group.add_parser(name, help=short, description=description, epilog=epilog)
        assert isinstance(command, Parser)
        commands[name] = command
        return command

    commands: dict[str, Parser] = {}
    info = add(
        "info",
        "the levels of a network, with nodes, edges, parameters and FLOPs",
        "Print a network's graph pyramid and what each level costs.",
    )
    info.add_argument("--json", action="store_true", help="print JSON instead of a table")
    look = add(
        "look",
        "classify photographs, and draw what the network samples and computes; look at a video",
        "Print the likeliest classes of photographs, and write pictures of what the network\n"
        "samples and computes, and its numbers. Of a video, write another one: where the gaze is,\n"
        "and what the eye sees there.",
    )
    demo = add(
        "demo",
        "the same for the photograph of a cat that comes with scikit-image",
        "Classify the photograph of a cat, and draw pictures of it; needs the extra 'demo'.",
    )
    predict = add(
        "predict",
        "classify images: print a table, CSV or JSON lines",
        "Classify images. Images that cannot be read are named on standard error and left out;\n"
        "the exit status is 1 then.",
    )
    evaluation = add(
        "eval",
        "evaluate a network on labelled images: accuracy, calibration, cost",
        "Evaluate a network on labelled images; write a web page and its numbers.",
    )
    explore = add(
        "explore",
        "write a web page that shows the receptive field of the unit under the mouse",
        "Write one HTML file, which works offline, to explore receptive fields in. Without\n"
        "--image, it shows the cat that comes with scikit-image, if that is installed.",
    )
    eyes = add(
        "eyes",
        "write a page of what every layout and field of view keeps of one photograph",
        "Write one HTML file, or a picture, of what every layout and field of view keeps of a\n"
        "photograph: the cat that comes with scikit-image, if none is named.",
    )
    _add_eyes_options(eyes)
    plot = add(
        "plot",
        "draw one picture of a network",
        "Draw a picture of a network.",
        _kinds_text(),
    )
    plot.add_argument("kind", metavar="KIND", choices=KINDS, help="what to draw: see below")
    train = add(
        "train",
        "train a network",
        "Train a network by a recipe, a configuration with sections on data and training. Ctrl-C\n"
        "stops training after the current step, and saves a checkpoint.",
    )
    convert = add(
        "convert",
        "convert a network of the fovi package to fovigraph's format, or back",
        "Convert a saved network from the fovi package's format to fovigraph's, or back.",
    )
    serve = add(
        "serve",
        "serve a network: images in, classes out, and a page to try it",
        "Answer POST /predict, whose body is an image file, with the image's classes as JSON, and\n"
        "show a page to try it with a camera or a photograph. Needs the extra 'serve'.",
        "GET /health and GET /metrics (Prometheus) are for those who run it. Without --host only\n"
        "this machine is answered; there is no password and no encryption: put a proxy before it.",
    )
    completion = add(
        "completion",
        "print code for shell completion",
        "Print code that makes a shell complete commands, options and names.",
        'to use it:\n  bash, zsh   eval "$(fovigraph completion bash)" in ~/.bashrc or ~/.zshrc\n'
        "  fish        fovigraph completion fish > ~/.config/fish/completions/fovigraph.fish",
    )
    completion.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))

    for command in (info, predict, evaluation, serve):
        command.add_argument("model", metavar="MODEL", help=MODEL_HELP).completer = _models  # type: ignore[attr-defined]
    for command in (look, demo, explore, plot):
        _add_optional_model(command)
    for command in (look, predict):
        what = "image files, or one video" if command is look else "image files"
        command.add_argument("images", nargs="*", metavar="IMAGE", help=what)
    _add_video_options(look)
    _add_predict_options(predict)
    _add_plot_options(plot)
    _add_train_options(train)
    _add_convert_options(convert)
    _add_eval_options(evaluation)
    _add_serve_options(serve)
    for command in (explore, plot):
        command.add_argument("--image", metavar="IMAGE", help="a photograph to look at")
    for command in (look, demo, explore, predict):
        command.add_argument(
            "--fixations", type=_count, metavar="N", help="number of fixations of each image"
        )
    for command in (explore, evaluation):
        command.add_argument(
            "--seed", type=_seed, metavar="S", help="seed of all random numbers (default: 0)"
        )
    for command in (look, demo, plot):
        command.add_argument(
            "--seed",
            type=_seed,
            metavar="S",
            help="draw random fixations with this seed (default: the network's fixations in "
            "evaluation); also the seed of random weights (default: 0)",
        )
    for command in (look, demo, predict, evaluation, explore, plot, serve):
        command.add_argument(
            "--device",
            choices=("auto", "cpu", "cuda"),
            help="device to compute on (default: a GPU if there is one)",
        )
    _add_out(look, "look")
    _add_out(demo, "demo")
    _add_out(evaluation, "evaluation")
    _add_out_file(explore, "explorer.html")
    _add_out_file(plot, None)
    for command in (info, look, demo, explore, plot, predict, train, evaluation, serve):
        command.add_argument(
            "overrides",
            nargs="*",
            default=[],
            metavar="KEY=VALUE",
            help="change a value of the configuration, as in fixation.count=2",
        )
    return parser, commands


def _models(**_: object) -> list[str]:
    """Return the names that a shell completes MODEL with; it adds files itself."""
    return sorted({*pretrained_names(), *config_names()})


def _add_optional_model(command: argparse.ArgumentParser) -> None:
    what = f"{MODEL_HELP} (default: {MODEL})"
    action = command.add_argument("model", metavar="MODEL", nargs="?", help=what)
    named = command.add_argument(
        "--model", dest="named_model", metavar="MODEL", help="the same, as an option"
    )
    for each in (action, named):
        each.completer = _models  # type: ignore[attr-defined]
    command.add_argument(
        "--config", dest="named_model", metavar="MODEL", action=Renamed, help=argparse.SUPPRESS
    )


def _add_predict_options(predict: argparse.ArgumentParser) -> None:
    form = predict.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="print CSV with a header")
    form.add_argument("--json", action="store_true", help="print a JSON object for every image")
    predict.add_argument(
        "--top", type=_count, default=5, metavar="N", help="number of classes to print (default: 5)"
    )
    predict.add_argument(
        "--batch-size", type=_count, default=32, metavar="N", help="images in a batch (default: 32)"
    )
    predict.epilog = (
        "IMAGE may be a folder, for all images in it, or -, for paths from standard input, one a\n"
        'line. A line of --json has the keys "file", "class", "probability" and "top", which\n'
        "lists the likeliest classes, each with its probability. Where an image may have several\n"
        'classes, "labels" (a column of --csv, with ; between names) lists those with a\n'
        "probability of at least 0.5."
    )


def _add_video_options(look: argparse.ArgumentParser) -> None:
    look.add_argument(
        "--video",
        type=Path,
        metavar="FILE",
        help="write only a video of the gaze and of what the eye sees, .mp4 or .gif (of a video, "
        "the default is DIR/look.mp4); needs the extra 'video', but for GIFs",
    )
    look.add_argument(
        "--path",
        metavar="FILE",
        help="move the gaze along this path: a CSV file with the columns seconds, row and column "
        "(fractions of the image), or a JSON list of objects with these keys",
    )
    look.add_argument(
        "--seconds",
        type=_seconds,
        metavar="S",
        help="how long a fixation lasts in the video, where no path says so (default: 0.5)",
    )
    look.epilog = (
        "A video is a file that ends in .mp4, .m4v, .mov, .mkv, .webm, .avi, .mpg or .mpeg; with\n"
        "--video, a GIF of several frames is one, too. Without --path, the gaze goes round the\n"
        "network's own fixations. A path's fixations must begin within the video, the first with\n"
        "it."
    )


def _add_eyes_options(eyes: argparse.ArgumentParser) -> None:
    eyes.add_argument("image", nargs="?", metavar="IMAGE", help="a photograph")
    eyes.add_argument(
        "--side",
        type=_count,
        default=64,
        metavar="N",
        help="all have about as many samples as an image of N × N pixels (default: 64)",
    )
    eyes.add_argument(
        "--fov",
        type=float,
        default=16.0,
        metavar="DEGREES",
        help="diameter of the field of view (default: 16)",
    )
    eyes.add_argument(
        "--cmf-a",
        type=float,
        default=0.5,
        metavar="DEGREES",
        help="the constant a of the cortical magnification 1 / (r + a) (default: 0.5)",
    )
    eyes.add_argument(
        "--fixation",
        type=float,
        nargs=2,
        metavar=("ROW", "COLUMN"),
        help="where they look, as fractions of the photograph (default: 0.5 0.5)",
    )
    eyes.add_argument(
        "--view",
        type=_count,
        metavar="PIXELS",
        help="how much of the photograph the field of view spans (default: its shorter side)",
    )
    _add_out_file(eyes, "eyes.html")


def _add_plot_options(plot: argparse.ArgumentParser) -> None:
    plot.add_argument("--level", type=_level, metavar="L", help="a level, by name or index")
    plot.add_argument("--unit", type=_seed, metavar="U", help="a unit's index within its level")
    plot.add_argument("--channel", type=_seed, metavar="C", help="channel of a filter (default: 0)")
    plot.add_argument(
        "--fixation",
        type=float,
        nargs=2,
        metavar=("ROW", "COLUMN"),
        help="place of the fixation, as fractions of the photograph (default: 0.5 0.5)",
    )
    plot.add_argument(
        "--space",
        choices=SPACES,
        help="draw in the visual field or on a map of the cortex: cortical, in millimetres; "
        "v1like, schwartz or warp, as fovi draws it",
    )
    plot.add_argument(
        "--map", choices=SPACES[1:], help="the map of the cortex, as of --space (default: cortical)"
    )
    plot.add_argument(
        "--color",
        choices=("eccentricity", "polar_angle"),
        help="what the nodes of sampling, levels and manifold are coloured by",
    )
    plot.add_argument(
        "--binary",
        action="store_true",
        default=None,
        help="draw receptive fields without the number of paths to each node",
    )
    plot.add_argument(
        "--bins",
        type=_count,
        metavar="N",
        help="draw receptive fields in hexagonal bins, N from side to side",
    )


def _add_train_options(train: argparse.ArgumentParser) -> None:
    recipe = train.add_argument(
        "config",
        metavar="RECIPE",
        help="a recipe's or configuration's name (see fovigraph --help), or its YAML file",
    )
    recipe.completer = lambda **_: config_names()  # type: ignore[attr-defined]
    train.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder of the run and the trained network (default: runs/RECIPE)",
    )
    train.add_argument("--resume", action="store_true", help="resume the run in that folder")
    train.add_argument(
        "--strict", action="store_true", help="stop at a broken image instead of leaving it out"
    )


def _add_convert_options(convert: argparse.ArgumentParser) -> None:
    convert.add_argument("source", metavar="SRC", help="a folder, or an id on the Hugging Face Hub")
    convert.add_argument("destination", metavar="DST", help="the folder to make")
    convert.add_argument(
        "--to-upstream", action="store_true", help="convert from fovigraph's format to fovi's"
    )
    convert.add_argument("--revision", metavar="REV", help="branch, tag or commit on the Hub")


def _add_eval_options(evaluation: argparse.ArgumentParser) -> None:
    evaluation.add_argument(
        "data",
        metavar="DATA",
        help="digits; a folder of images by class, or of parquet files; or an id on the Hub",
    )
    evaluation.add_argument(
        "--classes",
        choices=("by-name", "by-index"),
        default="by-name",
        help="match the data's classes to the network's by name or by index (default: by-name)",
    )
    evaluation.add_argument(
        "--fixations",
        type=_count,
        metavar="N",
        help="number of fixations of each image (default: as the network has them)",
    )
    evaluation.add_argument(
        "--areas",
        type=_areas,
        default=(),
        metavar="A,A,…",
        help="evaluate also with views of these areas, as fractions of the image's, e.g. 0.3,0.7",
    )
    evaluation.add_argument(
        "--repeats",
        type=_count,
        metavar="N",
        help="number of evaluations, each with other random fixations "
        "(default: 3 if fixations are random)",
    )
    evaluation.add_argument(
        "--split", metavar="NAME", help="split of the data (default: the test split)"
    )
    evaluation.add_argument(
        "--size",
        type=_count,
        metavar="PIXELS",
        help="side of the images (default: as in training, or 64)",
    )
    evaluation.add_argument(
        "--limit", type=_count, metavar="N", help="evaluate only N images, drawn at random"
    )
    evaluation.add_argument(
        "--batch-size", type=_count, default=64, metavar="N", help="images in a batch (default: 64)"
    )
    evaluation.add_argument(
        "--json", action="store_true", help="print the results as JSON instead of a table"
    )


def _add_serve_options(serve: argparse.ArgumentParser) -> None:
    serve.add_argument(
        "--host", default="127.0.0.1", metavar="HOST", help="address to listen at (127.0.0.1)"
    )
    serve.add_argument(
        "--port", type=_port, default=8000, metavar="N", help="port, 0 for a free one (8000)"
    )
    serve.add_argument(
        "--batch-size",
        type=_count,
        default=64,
        metavar="N",
        help="most images that are computed together (default: 64)",
    )
    serve.add_argument(
        "--max-requests",
        type=_count,
        default=256,
        metavar="N",
        help="most requests at a time; more are told to come back (default: 256)",
    )
    serve.add_argument(
        "--max-megabytes", type=_amount, default=10.0, metavar="MB", help="of a file (default: 10)"
    )
    serve.add_argument(
        "--max-megapixels",
        type=_amount,
        default=25.0,
        metavar="MP",
        help="of an image (default: 25)",
    )


def _shipped_text() -> str:
    rows = {
        "trained networks": pretrained_names(),
        "configurations": config_names(),
        "training recipes": recipe_names(),
    }
    width = max(map(len, rows))
    lines = [f"  {name:<{width}}  {', '.join(names)}" for name, names in rows.items()]
    return "\n".join(
        (
            "names for MODEL and RECIPE (a trained network before a configuration):",
            *lines,
            "",
            "fovigraph COMMAND --help describes a command.",
        )
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


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.01 <= value <= 3600:
        raise argparse.ArgumentTypeError(
            f"must be a number of seconds from 0.01 to 3600, got {shown(text)}"
        )
    return value


def _count(text: str) -> int:
    return _whole_number(text, 1, None)


def _port(text: str) -> int:
    return _whole_number(text, 0, 65535)


def _amount(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.001 <= value <= 1e6:
        raise argparse.ArgumentTypeError(
            f"must be a number from 0.001 to 1000000, got {shown(text)}"
        )
    return value


def _seed(text: str) -> int:
    return _whole_number(text, 0, LARGEST_SEED)


def _areas(text: str) -> list[float]:
    try:
        areas = [float(part) for part in text.split(",")]
    except ValueError:
        areas = [0.0]
    if not all(0 < area <= 1 for area in areas):
        raise argparse.ArgumentTypeError(
            f"must be numbers above 0, up to 1, with commas between them, got {shown(text)}"
        )
    return areas


def _whole_number(text: str, low: int, high: int | None) -> int:
    allowed = f"of at least {low}" if high is None else f"from {low} to {high}"
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if value < low or (high is not None and value > high):
        raise argparse.ArgumentTypeError(f"must be a whole number {allowed}, got {shown(text)}")
    return value
