"""``fovigraph train``: training a network, in a run that can be resumed."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from fovigraph._names import Named, what_is_named
from fovigraph._table import format_table
from fovigraph.cli.errors import users_mistake
from fovigraph.cli.files import make_folder
from fovigraph.cli.networks import read, saved_folder, say_where_k_is_cut
from fovigraph.cli.output import complain, say

SHOWN_SKIPPED = 5
"""Number of broken images that are named."""


def train_command(args: argparse.Namespace) -> int:
    """Train the network of the recipe ``args.config`` in the folder ``args.out``."""
    from fovigraph.train.recipe import load_recipe
    from fovigraph.train.source import check_source

    name, folder = _named(args)
    strict = ["data.strict=true"] if args.strict else []
    with users_mistake(ValueError, TypeError, ImportError, OSError):
        load = partial(load_recipe, run=folder if args.resume else None)
        recipe = read(load, name, [*args.overrides, *strict], "RECIPE")
        source = check_source(recipe.data)  # at once: what follows takes seconds to import
    from fovigraph.train.checkpoint import CheckpointError
    from fovigraph.train.interrupt import Interrupted
    from fovigraph.train.trainer import Trainer, TrainingError

    mistakes = (ValueError, TypeError, ImportError, OSError, CheckpointError, TrainingError)
    with users_mistake(*mistakes):
        make_folder(folder)
        trainer = Trainer(recipe, folder, resume=args.resume)
        if trainer.main:
            for note in trainer.notes:
                say(note)
            if name != args.config and not args.resume and recipe.train.start is None:
                say(f"the weights are random: train.start={args.config} starts from its weights")
            say_where_k_is_cut(trainer.net.pyramid)
        try:
            history = trainer.fit()
        except Interrupted as stopped:
            if trainer.main:
                again = shlex.join(["fovigraph", "train", str(folder), "--resume"])
                complain(f"fovigraph: {stopped}; to go on: {again}")
            return 130
    if trainer.main:
        say(_table(history))
        if trainer.stopped_early:
            say(f"\nStopped early: {recipe.train.patience} evaluations without a better one")
        say(f"\nProbabilities: {trainer.calibration}")
        if trainer.skipped:
            say(f"\n{_skipped([error.name for error in trainer.skipped])}")
        evaluate = shlex.join(["fovigraph", "eval", str(folder), source])
        say(f"\nThe model is in {folder}; to evaluate it: {evaluate}")
    return 0


def _named(args: argparse.Namespace) -> tuple[str | Path, Path]:
    """Return the name or file of the recipe, and the folder of the run.

    A folder stands for the configuration of the network there; with ``--resume``, when that network
    may be gone, for the recipe of the run that goes on.
    """
    if what_is_named(args.config, configuration_first=True) is Named.CONFIGURATION:
        return args.config, args.out or Path("runs") / Path(args.config).stem
    if args.resume:
        run = args.out or Path(args.config)
        if (run / "recipe.yaml").is_file():
            return run / "recipe.yaml", run
    folder = saved_folder(args.config, "RECIPE")
    name = args.config if folder is None else folder / "config.yaml"
    return name, args.out or Path("runs") / Path(args.config).stem


def _table(history: Sequence[Mapping[str, float]]) -> str:
    """Return a table of the figures of every epoch."""

    def text(name: str, value: float | None) -> int | str | None:
        if value is None or name == "epoch":
            return value if value is None else int(value)
        if name == "images_per_second":
            return round(value)
        return f"{value:.3f}" if name.endswith("loss") else f"{value:.1%}"

    columns = dict.fromkeys(name for row in history for name in row)
    rows = [{n.replace("_", " "): text(n, row.get(n)) for n in columns} for row in history]
    return format_table(rows)


def _skipped(names: Sequence[str]) -> str:
    """Name the broken images that were left out."""
    more = ", …" if len(names) > SHOWN_SKIPPED else ""
    noun = "image was" if len(names) == 1 else "images were"
    return f"{len(names)} broken {noun} left out: {', '.join(names[:SHOWN_SKIPPED])}{more}"
