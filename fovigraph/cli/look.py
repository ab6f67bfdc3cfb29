"""``fovigraph look`` and ``fovigraph demo``: pictures and numbers of a network on images."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from fovigraph import __version__, viz
from fovigraph.cli.errors import users_mistake
from fovigraph.cli.files import demo_image, image_file, make_folder, write
from fovigraph.cli.networks import build, device_of, read_config, saved_folder
from fovigraph.cli.output import say
from fovigraph.cli.video import asks_for_video, look_at_video
from fovigraph.models import FoviNet, FoviOutput
from fovigraph.models.predict import THRESHOLD, labels_of, top_classes
from fovigraph.viz import style

TOP = 5
"""Classes that are reported."""

BAR = 30
"""Characters of the bar of a probability of 1."""

COMPRESSION = 3
"""Compression level of PNG files: a tenth larger than at the default of 6, in half the time."""


class Views(NamedTuple):
    """A network, an image ``[3, H, W]``, and the network's output for it.

    Attributes:
        samples: The colours that the retina sampled at every fixation, ``[F, N, 3]``.
    """

    net: FoviNet
    image: Tensor
    output: FoviOutput
    samples: Tensor


class Picture(NamedTuple):
    """A figure, the name of its file, and what it shows in a line."""

    name: str
    shows: str
    figure: Figure


def look(args: argparse.Namespace) -> int:
    """Classify ``args.images`` (the demo's own, for ``demo``), and write pictures to ``args.out``.

    Of several images, each has a folder of its own there.
    """
    if args.command == "look" and asks_for_video(args):
        return look_at_video(args)
    device = device_of(args.device)
    overrides = list(args.overrides)
    if args.fixations is not None:
        overrides += [f"fixation.count={args.fixations}", f"fixation.eval_count={args.fixations}"]
    config, folder = read_config(args.model, overrides), saved_folder(args.model)
    if args.command == "demo":
        images = {"skimage.data.chelsea()": demo_image()}
    else:
        images = {path: image_file(path) for path in args.images}
    folders = _folders(args.out, list(images))
    for out in folders:
        make_folder(out)

    steps = len(images) * (config.fixation.eval_count or config.fixation.count) + 4
    with (
        torch.random.fork_rng(devices=[]),
        tqdm(total=steps, disable=None, leave=False, unit="step") as bar,
    ):
        bar.set_description("building the network")
        torch.manual_seed(args.seed or 0)
        net = build(config, folder)
        for out, (name, image) in zip(folders, images.items(), strict=True):
            bar.set_description(f"looking at {name}")
            views = _view(net, image, args.seed, device)
            written = []
            numbers = _numbers(views)
            for picture in _pictures(views, None if folder is None else numbers):
                with users_mistake(OSError):
                    picture.figure.savefig(
                        out / picture.name, pil_kwargs={"compress_level": COMPRESSION}
                    )
                written.append((picture.name, picture.shows))
                bar.update()
            report = {
                "fovigraph": __version__,
                "model": args.model,
                "overrides": overrides,
                "weights": "random" if folder is None else "loaded",
                "image": name,
                "seed": args.seed,
                **numbers,
                "pictures": [name for name, _ in written],
            }
            text = json.dumps(report, indent=2) + "\n"
            with users_mistake(OSError):
                write(out / "look.json", text)
            written.append(("look.json", "the numbers: fixations, classes, nodes"))
            with tqdm.external_write_mode():
                _tell(out, written, report)
    return 0


def _folders(out: Path, images: list[str]) -> list[Path]:
    """Return the folder of every image: ``out``, or in it one for each, by its name."""
    if len(images) == 1:
        return [out]
    names: list[str] = []
    for image in images:
        stem = Path(image).stem
        others = (f"{stem}-{i}" for i in itertools.count(2))
        names.append(next(name for name in itertools.chain([stem], others) if name not in names))
    return [out / name for name in names]


@torch.inference_mode()
def _view(net: FoviNet, image: Tensor, seed: int | None, device: str) -> Views:
    """Look at an image on a device; the result, and the network then, are on the CPU."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    net.to(device)
    batch = image[None].to(device)
    output = net(batch, generator=generator)
    samples = net.retina.colors(batch, output.fixations, output.fixation_sizes)
    net.cpu()
    return Views(net, image, output.cpu(), samples[0].cpu())


def _pictures(views: Views, answer: dict[str, Any] | None) -> Iterator[Picture]:
    """Yield pictures; ``answer`` are the numbers of a trained network, whose classes they name."""
    net, image, output, samples = views
    array, where, size = net.retina.array, output.fixations[0], output.fixation_sizes[0]
    figure = viz.plot_fixations(image, where, size, array=array)
    if answer is not None:
        figure.suptitle(_named(answer["top"]), **style.TITLE)
    yield Picture(
        "fixations.png", "where the network looks, and how much it sees from there", figure
    )
    for i in range(len(samples)):
        names = "" if answer is None else f": {_named(answer['fixations'][i]['top'])}"
        yield Picture(
            f"fixation-{i + 1}.png",
            f"what the retina keeps at fixation {i + 1}, as seen and on the cortex",
            viz.plot_view(
                image,
                array,
                samples[i],
                where[i],
                size[i],
                title=f"Fixation {i + 1} of {len(samples)}{names}",
            ),
        )
    # Most of the photograph is in view from the fixation that is nearest to its centre.
    central = int((where - 0.5).norm(dim=-1).argmin())
    level, unit = viz.example_unit(net.pyramid)
    yield Picture(
        "receptive-field.png",
        f"what one unit of level {net.pyramid.names[level]!r} sees, at fixation {central + 1}",
        viz.plot_receptive_field(
            net.pyramid, level, unit, image=image, fixation=where[central], size=size[central]
        ),
    )


def _numbers(views: Views) -> dict[str, Any]:
    """What was computed, as plain data, rounded so that it is the same on every machine."""
    net, image, output, _ = views
    fixations = []
    for where, size, shares in zip(
        output.fixations[0],
        output.fixation_sizes[0],
        output.fixation_probabilities[0],
        strict=True,
    ):
        row, column = where.tolist()
        height, width = size.tolist()
        fixations.append(
            {
                "row": round(row, 6),
                "column": round(column, 6),
                "height_pixels": round(height, 3),
                "width_pixels": round(width, 3),
                "top": _top(shares, net.class_names),
            }
        )
    shares = output.probabilities[0]
    labels = {"labels": labels_of(shares, net.class_names)} if net.config.head.multi_label else {}
    return {
        "image_height_pixels": image.shape[-2],
        "image_width_pixels": image.shape[-1],
        "field_of_view_degrees": net.config.retina.fov,
        "nodes": {
            name: len(level)
            for name, level in zip(net.pyramid.names, net.pyramid.levels, strict=True)
        },
        "fixations": fixations,
        "top": _top(shares, net.class_names),
        **labels,
    }


def _top(shares: Tensor, names: Sequence[str]) -> list[dict[str, Any]]:
    pairs = top_classes(shares, names, TOP)
    return [{"class": name, "probability": round(p, 5)} for name, p in pairs]


def _named(top: list[dict[str, Any]]) -> str:
    """Return the likeliest classes in a line of text."""
    return ", ".join(f"{each['class']} {each['probability']:.1%}" for each in top)


def _tell(folder: Path, written: list[tuple[str, str]], report: dict[str, Any]) -> None:
    """Print a summary: the classes, and the files written."""
    paths = [str(folder / name) for name, _ in written]
    width = max(map(len, paths))
    for path, (_, shows) in zip(paths, written, strict=True):
        say(f"{path:<{width}}  {shows}")
    looks = report["fixations"]
    views = f"{len(looks)} view{'s' if len(looks) > 1 else ''}"
    views += f" of {report['nodes']['retina']:,} samples at {report['image']}"
    if report["weights"] == "random":
        say(
            f"{views}. The weights are random, as {report['model']} is a configuration, not a "
            "trained model: what is sampled and seen is real, the classes mean nothing."
        )
        return
    say()
    answer = f"Most likely: {_named(report['top'][:1])}"
    if "labels" in report:
        labels = ", ".join(report["labels"]) or "none"
        answer = f"Classes with a probability of at least {THRESHOLD:.0%}: {labels}"
    say(f"{views}. {answer}.")
    say()
    rows = [("together", report["top"])]
    rows += [(f"fixation {i + 1}", look["top"]) for i, look in enumerate(looks)]
    longest = max(len(each["class"]) for _, top in rows for each in top)
    for name, top in rows:
        for i, each in enumerate(top):
            share = each["probability"]
            line = f"{'' if i else name:<12}{each['class']:<{longest}}  {share:>6.1%}  {bar(share)}"
            say(line.rstrip())


def bar(share: float) -> str:
    """Return a bar of text for a fraction, in characters that standard output can encode."""
    sign = "\N{FULL BLOCK}"
    try:
        sign.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeError, LookupError):
        sign = "#"
    return sign * round(BAR * share)
