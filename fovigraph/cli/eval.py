"""``fovigraph eval``: accuracy, calibration and cost of a network, as JSON and as a web page."""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from fovigraph import __version__
from fovigraph.cli.errors import UserError, users_mistake
from fovigraph.cli.files import make_folder, write
from fovigraph.cli.networks import (
    build,
    device_of,
    read,
    saved_folder,
    warn_of_random_weights,
)
from fovigraph.cli.output import say
from fovigraph.config import to_dict
from fovigraph.models import FoviNet
from fovigraph.sensing import FIXATION_POLICIES
from fovigraph.train.batches import Batch, Batches
from fovigraph.train.data import DataError, open_data
from fovigraph.train.evaluate import Evaluation, evaluate
from fovigraph.train.recipe import Recipe, load_recipe, network_of
from fovigraph.train.report import evaluation_html, headline, percent

SHOWN = (1, 2, 3, 4, 6, 8, 10, 15, 20)
"""Numbers of fixations whose accuracy is printed."""

SHOWN_NAMES = 10
"""Classes up to which they are named."""

REPEATS = 3
"""Evaluations of a network whose fixations are random."""


def eval_command(args: argparse.Namespace) -> int:
    """Evaluate the network ``args.model`` on ``args.data``, and write to ``args.out``."""
    folder = saved_folder(args.model)
    device = device_of(args.device)
    with users_mistake(ValueError):
        recipe = _recipe(folder, args)
    make_folder(args.out)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(args.seed)
        net = build(network_of(recipe), folder, device)
    warn_of_random_weights(args.model, folder)
    random = _is_random(net)
    if args.repeats is not None and args.repeats > 1 and not random:
        raise UserError(
            "argument --repeats: must be 1, as the network has the same fixations every time "
            "(fixation.in_eval=random makes them random)"
        )
    with users_mistake(ValueError, OSError):
        splits = open_data(recipe.data)
        names, index = _classes(net, splits.classes, args)
        batches = Batches(
            splits.train if _of_training(recipe, args.split) else splits.test,
            args.batch_size,
            shuffle=args.limit is not None,
            drop_last=False,
            seed=args.seed,
            workers=recipe.data.workers,
            strict=recipe.data.strict,
        )
        results, skipped = [], 0
        for seed in range(args.seed, args.seed + (args.repeats or (REPEATS if random else 1))):
            result = evaluate(
                net,
                _shown(batches, args.limit, index),
                fixations=args.fixations,
                classes=names,
                generator=torch.Generator().manual_seed(seed) if random else None,
            )
            skipped = skipped or len(batches.skipped)
            results.append(result)
    about = {
        "fovigraph": __version__,
        "network": args.model,
        "weights": "random" if folder is None else "loaded",
        "data": args.data,
        "split": args.split or recipe.data.test_split,
        "size": recipe.data.size,
        "overrides": args.overrides,
        "seed": args.seed,
        "fixations_drawn": random,
        "skipped": skipped,
        "top1_of_repeats": [each.top1 for each in results] if random else None,
    }
    numbers = json.dumps({**about, **asdict(results[0])}, indent=2)
    page = evaluation_html(results[0], f"{args.model} on {args.data}", _facts(about))
    with users_mistake(OSError):
        write(args.out / "evaluation.json", numbers + "\n")
        write(args.out / "evaluation.html", page)
    say(numbers if args.json else _table(results[0], args.out, about))
    return 0


def _is_random(net: FoviNet) -> bool:
    """Return whether a network's fixations are random in evaluation."""
    fixation = net.config.fixation
    return FIXATION_POLICIES[fixation.policy].random and fixation.in_eval == "random"


def _classes(
    net: FoviNet, of_data: Sequence[str], args: argparse.Namespace
) -> tuple[list[str], Tensor]:
    """Return the names of the network's classes, and their index for each of the data's, int64."""
    count = net.config.head.num_classes
    if net.config.head.class_names is None or args.classes == "by-index":
        if len(of_data) != count:
            raise UserError(
                f"{args.model} has {count} classes, "
                f"and {args.data} has {len(of_data)}: they are for different tasks"
            )
        names = list(of_data) if net.config.head.class_names is None else net.class_names
        return names, torch.arange(count)
    names = net.class_names
    unknown = [name for name in of_data if name not in names]
    if unknown:
        more = ", …" if len(unknown) > SHOWN_NAMES else ""
        known = ", …" if count > SHOWN_NAMES else ""
        raise UserError(
            f"{args.data} has classes that {args.model} does not know: "
            f"{', '.join(map(repr, unknown[:SHOWN_NAMES]))}{more}; it knows "
            f"{', '.join(map(repr, names[:SHOWN_NAMES]))}{known} (if they are the same, in this "
            "order: --classes by-index)"
        )
    return names, torch.tensor([names.index(name) for name in of_data])


def _recipe(folder: Path | None, args: argparse.Namespace) -> Recipe:
    """Return the network's configuration, with the data to evaluate it on.

    If the recipe of its training is there, it has that recipe's section ``data`` for the same
    data, and the recipe's ``data.size`` for other data.
    """
    trained = None if folder is None else folder / "recipe.yaml"
    data: dict[str, Any] = {}
    if trained is not None and trained.is_file():
        data = to_dict(load_recipe(trained).data)
        if os.path.abspath(data["source"]) != os.path.abspath(args.data):
            data = {"size": data["size"]}
    data |= {"source": args.data, "memory": 0.0}  # every image is read once
    if args.size is not None:
        data["size"] = args.size
    if args.split is not None and args.split != (data.get("train_split") or "train"):
        data["test_split"] = args.split
    settings = [f"data.{key}={json.dumps(value)}" for key, value in data.items()]
    source = args.model if folder is None else folder / "config.yaml"
    return read(load_recipe, source, [*settings, *args.overrides])


def _of_training(recipe: Recipe, split: str | None) -> bool:
    return split is not None and split == (recipe.data.train_split or "train")


def _shown(batches: Batches, limit: int | None, index: Tensor) -> Iterator[Batch]:
    """Yield batches of ``limit`` images in all, with a progress bar; label i is ``index[i]``."""
    total = batches.length if limit is None else -(-limit // batches.batch_size)
    seen = 0
    for batch in tqdm(batches.epoch(0), total=total, disable=None, leave=False, unit="batch"):
        rest = None if limit is None else limit - seen
        batch = batch._replace(labels=index[batch.labels])
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
        "split": about["split"] or "the data's test split",
        "images": f"{about['size']} × {about['size']} pixels",
        "broken images left out": f"{about['skipped']:,}" if about["skipped"] else "",
        "weights": "random: it was not trained" if about["weights"] == "random" else "",
        "places looked at": "drawn at random" if about["fixations_drawn"] else "fixed",
        "repeats": _spread(about["top1_of_repeats"]),
        "seed": str(about["seed"]),
        "fovigraph": about["fovigraph"],
    }
    return {name: value for name, value in facts.items() if value}


def _spread(top1: list[float] | None) -> str:
    """Return the mean and the standard deviation of accuracies with other random fixations."""
    if top1 is None or len(top1) < 2:
        return ""
    mean, deviation = statistics.mean(top1), statistics.stdev(top1)
    return f"top-1 {percent(mean)} ± {percent(deviation)} over {len(top1)} with other fixations"


def _table(result: Evaluation, folder: Path, about: dict[str, Any]) -> str:
    """Return the figures, and what was written, as text."""
    skipped, spread = about["skipped"], _spread(about["top1_of_repeats"])
    figures = {"images": f"{result.images:,}", **headline(result)}
    figures |= {
        f"of {each.name}": percent(each.accuracy)
        for each in result.classes
        if each.accuracy is not None and len(result.classes) <= SHOWN_NAMES
    }
    for n in SHOWN:
        if n <= result.fixations and result.fixations > 1:
            name = f"with {n} fixation{'s' if n > 1 else ''}"
            figures[name] = percent(result.top1_by_fixations[n - 1])
    name_width, width = (max(map(len, words)) for words in zip(*figures.items(), strict=True))
    lines = [f"{name:<{name_width}}  {value:>{width}}" for name, value in figures.items()]
    if spread:
        lines += ["", f"{spread}: mean ± standard deviation."]
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
