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
from fovigraph.train.batches import Batch, Batches, reordered
from fovigraph.train.data import DataError, open_data
from fovigraph.train.evaluate import evaluate
from fovigraph.train.evaluation import Evaluation, MultiLabelEvaluation
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
        recipe, learnt = _recipe(folder, args)
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
        several = net.config.head.multi_label
        splits = open_data(recipe.data, multi_label=several, hold_out=learnt)
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
                _shown(batches, args.limit, index, len(names)),
                fixations=args.fixations,
                areas=args.areas,
                classes=names,
                generator=torch.Generator().manual_seed(seed) if random else None,
            )
            skipped = skipped or len(batches.skipped)
            results.append(result)
    first, scores = results[0], [each.by_fixations[-1] for each in results]
    about = {
        "fovigraph": __version__,
        "network": args.model,
        "weights": "random" if folder is None else "loaded",
        "data": args.data,
        "split": args.split or splits.tested,
        "size": recipe.data.size,
        "overrides": args.overrides,
        "seed": args.seed,
        "fixations_drawn": random,
        "skipped": skipped,
        f"{first.KEY}_of_repeats": scores if random else None,
    }
    spread = _spread(first.SCORE, scores)
    numbers = json.dumps({**about, **asdict(first)}, indent=2)
    page = evaluation_html(first, f"{args.model} on {args.data}", _facts(about, spread))
    with users_mistake(OSError):
        write(args.out / "evaluation.json", numbers + "\n")
        write(args.out / "evaluation.html", page)
    say(numbers if args.json else _table(first, args.out, skipped, spread))
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


def _recipe(folder: Path | None, args: argparse.Namespace) -> tuple[Recipe, bool]:
    """Return the network's configuration with the data, and whether it learned from the same data.

    Of the recipe it was trained by, if that is there: all about the data if they are the same,
    and otherwise what belongs to the network rather than to the data.
    """
    trained = None if folder is None else folder / "recipe.yaml"
    data: dict[str, Any] = {}
    learnt = False
    if trained is not None and trained.is_file():
        data = to_dict(load_recipe(trained).data)
        learnt = os.path.abspath(data["source"]) == os.path.abspath(args.data)
        data = data if learnt else {"size": data["size"]}
    data |= {"source": args.data, "memory": 0.0}  # every image is read once
    if args.size is not None:
        data["size"] = args.size
    if args.split is not None and args.split != (data.get("train_split") or "train"):
        data["test_split"] = args.split
    settings = [f"data.{key}={json.dumps(value)}" for key, value in data.items()]
    source = args.model if folder is None else folder / "config.yaml"
    return read(load_recipe, source, [*settings, *args.overrides]), learnt


def _of_training(recipe: Recipe, split: str | None) -> bool:
    return split is not None and split == (recipe.data.train_split or "train")


def _shown(batches: Batches, limit: int | None, index: Tensor, count: int) -> Iterator[Batch]:
    """Yield batches of ``limit`` images in all, with a progress bar; label i is ``index[i]``."""
    total = batches.length if limit is None else -(-limit // batches.batch_size)
    seen = 0
    for batch in tqdm(batches.epoch(0), total=total, disable=None, leave=False, unit="batch"):
        rest = None if limit is None else limit - seen
        batch = batch._replace(labels=reordered(batch.labels, index, count))
        yield Batch(*(entry[:rest] for entry in batch))
        seen += len(batch.images)
        if limit is not None and seen >= limit:
            return
    if not seen and batches.skipped:
        raise DataError(f"none of the images can be read; the first: {batches.skipped[0]}")


def _facts(about: dict[str, Any], spread: str) -> dict[str, str]:
    facts = {
        "network": about["network"],
        "changed settings": " ".join(about["overrides"]),
        "data": about["data"],
        "split": about["split"],
        "images": f"{about['size']} × {about['size']} pixels",
        "broken images left out": f"{about['skipped']:,}" if about["skipped"] else "",
        "weights": "random: it was not trained" if about["weights"] == "random" else "",
        "places looked at": "drawn at random" if about["fixations_drawn"] else "fixed",
        "repeats": spread,
        "seed": str(about["seed"]),
        "fovigraph": about["fovigraph"],
    }
    return {name: value for name, value in facts.items() if value}


def _spread(score: str, values: list[float]) -> str:
    """Return the mean and the standard deviation of scores with other random fixations."""
    if len(values) < 2:
        return ""
    mean, deviation = statistics.mean(values), statistics.stdev(values)
    return f"{score} {percent(mean)} ± {percent(deviation)} over {len(values)} with other fixations"


def _table(
    result: Evaluation | MultiLabelEvaluation, folder: Path, skipped: int, spread: str
) -> str:
    """Return the figures, and what was written, as text."""
    figures = {"images": f"{result.images:,}", **headline(result)}
    figures |= {
        f"of {each.name}": percent(score)
        for each in result.classes
        if (score := each.score) is not None and len(result.classes) <= SHOWN_NAMES
    }
    for n in SHOWN:
        if n <= result.fixations and result.fixations > 1:
            name = f"with {n} fixation{'s' if n > 1 else ''}"
            figures[name] = percent(result.by_fixations[n - 1])
    for each in result.by_area:
        figures[f"with {each.area:g} of the image's area"] = percent(each.by_fixations[-1])
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
