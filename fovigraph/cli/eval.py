"""``fovigraph eval``: how well a network tells classes, as JSON and as a web page."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from fovigraph import __version__
from fovigraph.cli.errors import UserError, users_mistake
from fovigraph.cli.files import make_folder, write
from fovigraph.cli.networks import build, pretrained_folder
from fovigraph.cli.output import say
from fovigraph.train.batches import Batch, Batches
from fovigraph.train.data import DataError, open_data
from fovigraph.train.evaluate import Evaluation, evaluate
from fovigraph.train.recipe import load_recipe, network_of
from fovigraph.train.report import evaluation_html, headline, percent

SHOWN = (1, 2, 3, 4, 6, 8, 10, 15, 20)
"""Numbers of fixations whose accuracy is printed."""


def eval_command(args: argparse.Namespace) -> int:
    """Evaluate the network ``args.model`` on ``args.data``, and write to ``args.out``."""
    folder = pretrained_folder(args.model, "MODEL")
    device = _device(args.device)
    with users_mistake(ValueError):
        recipe = _recipe(folder, args)
    make_folder(args.out)
    with torch.random.fork_rng(devices=[]):
        net = build(network_of(recipe), folder).to(device)
    with users_mistake(ValueError, OSError):
        splits = open_data(recipe.data)
        if len(splits.classes) != recipe.head.num_classes:
            raise UserError(
                f"{args.model} is for another task: it tells {recipe.head.num_classes} classes, "
                f"and {args.data} has {len(splits.classes)}"
            )
        batches = Batches(
            splits.train if _of_training(recipe, args.split) else splits.test,
            args.batch_size,
            shuffle=args.limit is not None,
            drop_last=False,
            seed=args.seed,
            workers=recipe.data.workers,
            strict=recipe.data.strict,
        )
        result = evaluate(
            net,
            _shown(batches, args.limit),
            fixations=args.fixations,
            classes=splits.classes,
            generator=torch.Generator().manual_seed(args.seed),
        )
    about = {
        "fovigraph": __version__,
        "network": args.model,
        "data": args.data,
        "split": args.split or recipe.data.test_split,
        "size": recipe.data.size,
        "overrides": args.overrides,
        "seed": args.seed,
        "skipped": len(batches.skipped),
    }
    numbers = json.dumps({**about, **asdict(result)}, indent=2)
    page = evaluation_html(result, f"{args.model} on {args.data}", _facts(about))
    with users_mistake(OSError):
        write(args.out / "evaluation.json", numbers + "\n")
        write(args.out / "evaluation.html", page)
    say(numbers if args.json else _table(result, args.out, len(batches.skipped)))
    return 0


def _device(name: str) -> str:
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise UserError("argument --device: there is no CUDA device here, got 'cuda'")
    return ("cuda" if there else "cpu") if name == "auto" else name


def _recipe(folder: Path, args: argparse.Namespace) -> DictConfig:
    """Return the network's configuration, with the data to evaluate it on.

    Of the recipe it was trained by, if that is there: all about the data if they are the same,
    and otherwise what belongs to the network rather than to the data.
    """
    trained = folder / "recipe.yaml"
    data: dict[str, Any] = {}
    if trained.is_file():
        data = OmegaConf.to_container(load_recipe(trained).data)  # type: ignore[assignment]
        if os.path.abspath(data["source"]) != os.path.abspath(args.data):
            data = {"size": data["size"]}
    data |= {"source": args.data, "memory": 0.0}  # every image is read once
    if args.size is not None:
        data["size"] = args.size
    if args.split is not None and args.split != (data.get("train_split") or "train"):
        data["test_split"] = args.split
    settings = [f"data.{key}={json.dumps(value)}" for key, value in data.items()]
    return load_recipe(folder / "config.yaml", [*settings, *args.overrides])


def _of_training(recipe: DictConfig, split: str | None) -> bool:
    return split is not None and split == (recipe.data.train_split or "train")


def _shown(batches: Batches, limit: int | None) -> Iterator[Batch]:
    """Yield batches, up to so many images, with a progress bar."""
    total = batches.length if limit is None else -(-limit // batches.batch_size)
    seen = 0
    for batch in tqdm(batches.epoch(0), total=total, disable=None, leave=False, unit="batch"):
        rest = None if limit is None else limit - seen
        yield Batch(*(entry[:rest] for entry in batch))
        seen += len(batch.images)
        if limit is not None and seen >= limit:
            return
    if not seen and batches.skipped:
        raise DataError(f"none of the images can be read; the first: {batches.skipped[0]}")


def _facts(about: dict[str, Any]) -> dict[str, str]:
    facts = {
        "network": about["network"],
        "changed settings": " ".join(about["overrides"]),
        "data": about["data"],
        "split": about["split"] or "to test on",
        "images": f"{about['size']} × {about['size']} pixels",
        "broken images left out": f"{about['skipped']:,}" if about["skipped"] else "",
        "seed": str(about["seed"]),
        "fovigraph": about["fovigraph"],
    }
    return {name: value for name, value in facts.items() if value}


def _table(result: Evaluation, folder: Path, skipped: int) -> str:
    """Return the figures, and what was written, as text."""
    figures = {"images": f"{result.images:,}", **headline(result)}
    for n in SHOWN:
        if n <= result.fixations and result.fixations > 1:
            name = f"with {n} fixation{'s' if n > 1 else ''}"
            figures[name] = percent(result.top1_by_fixations[n - 1])
    name_width, width = (max(map(len, words)) for words in zip(*figures.items(), strict=True))
    lines = [f"{name:<{name_width}}  {value:>{width}}" for name, value in figures.items()]
    if result.note:
        lines += ["", result.note]
    if skipped:
        lines += ["", f"{skipped:,} broken images were left out."]
    lines += [
        "",
        f"{folder / 'evaluation.html'}  all of it, to be opened in a browser",
        f"{folder / 'evaluation.json'}  the numbers",
    ]
    return "\n".join(lines)
