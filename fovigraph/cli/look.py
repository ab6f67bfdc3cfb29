"""``fovigraph look`` and ``fovigraph demo``: what a network sees in an image."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from fovigraph import __version__, viz
from fovigraph.cli.errors import users_mistake
from fovigraph.cli.files import demo_image, image_file, make_folder, write
from fovigraph.cli.networks import build, read_config, saved_folder
from fovigraph.cli.output import say
from fovigraph.models import FoviNet, FoviOutput

TOP = 5
"""Classes that are reported."""

COMPRESSION = 3
"""Of PNG files: a tenth larger than at the default of 6, in half the time."""


class Glances(NamedTuple):
    """A network, an image ``[3, H, W]``, and what the one computed of the other.

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
    """Look at ``args.image`` (None: the demo's), and write pictures and numbers to ``args.out``."""
    overrides = list(args.overrides)
    if args.fixations is not None:
        overrides.append(f"fixation.count={args.fixations}")
    config, folder = read_config(args.config, overrides), saved_folder(args.config)
    image = demo_image() if args.image is None else image_file(args.image)
    make_folder(args.out)

    count, written = config.fixation.count, []
    with (
        torch.random.fork_rng(devices=[]),
        tqdm(total=count + 4, disable=None, leave=False, unit="step") as bar,
    ):
        bar.set_description("building the network")
        torch.manual_seed(args.seed)
        net = build(config, folder)
        bar.update()
        bar.set_description("looking")
        glances = _glance(net, image, args.seed)
        bar.update()
        for picture in _pictures(glances):
            bar.set_description(picture.name)
            with users_mistake(OSError):
                picture.figure.savefig(
                    args.out / picture.name, pil_kwargs={"compress_level": COMPRESSION}
                )
            written.append((picture.name, picture.shows))
            bar.update()

    numbers = {
        "fovigraph": __version__,
        "config": args.config,
        "overrides": overrides,
        "weights": "random" if folder is None else "loaded",
        "image": args.image or "skimage.data.chelsea()",
        "seed": args.seed,
        **_numbers(glances),
        "pictures": [name for name, _ in written],
    }
    with users_mistake(OSError):
        write(args.out / "look.json", json.dumps(numbers, indent=2) + "\n")
    written.append(("look.json", "the numbers: fixations, classes, nodes"))
    _tell(args.out, written, numbers)
    return 0


@torch.inference_mode()
def _glance(net: FoviNet, image: Tensor, seed: int) -> Glances:
    output = net(image[None], generator=torch.Generator().manual_seed(seed))
    samples = net.retina.colors(image[None], output.fixations, output.fixation_sizes)
    return Glances(net, image, output, samples[0])


def _pictures(glances: Glances) -> Iterator[Picture]:
    net, image, output, samples = glances
    array, where, size = net.retina.array, output.fixations[0], output.fixation_sizes[0]
    yield Picture(
        "fixations.png",
        "where the network looks, and how much it sees from there",
        viz.plot_fixations(image, where, size, array=array),
    )
    for i in range(len(samples)):
        yield Picture(
            f"fixation-{i + 1}.png",
            f"what the retina keeps at fixation {i + 1}, as seen and on the cortex",
            viz.plot_glance(
                image,
                array,
                samples[i],
                where[i],
                size[i],
                title=f"Fixation {i + 1} of {len(samples)}",
            ),
        )
    # Most of the photograph is in view from the fixation that is nearest to its centre.
    central = int((where - 0.5).norm(dim=-1).argmin())
    level, unit = viz.telling_unit(net.pyramid)
    yield Picture(
        "receptive-field.png",
        f"what one unit of level {net.pyramid.names[level]!r} sees, at fixation {central + 1}",
        viz.plot_receptive_field(
            net.pyramid, level, unit, image=image, fixation=where[central], size=size[central]
        ),
    )


def _numbers(glances: Glances) -> dict[str, Any]:
    """What was computed, as plain data, rounded so that it is the same on every machine."""
    net, image, output, _ = glances
    fixations = []
    for where, size, logits in zip(
        output.fixations[0], output.fixation_sizes[0], output.fixation_logits[0], strict=True
    ):
        row, column = where.tolist()
        height, width = size.tolist()
        fixations.append(
            {
                "row": round(row, 6),
                "column": round(column, 6),
                "height_pixels": round(height, 3),
                "width_pixels": round(width, 3),
                "top": _top(logits),
            }
        )
    return {
        "image_height_pixels": image.shape[-2],
        "image_width_pixels": image.shape[-1],
        "field_of_view_degrees": net.config.retina.fov,
        "nodes": {
            name: len(level)
            for name, level in zip(net.pyramid.names, net.pyramid.levels, strict=True)
        },
        "fixations": fixations,
        "top": _top(output.logits[0]),
    }


def _top(logits: Tensor) -> list[dict[str, int | float]]:
    probability, index = logits.softmax(-1).topk(min(TOP, len(logits)))
    return [
        {"class": c, "probability": round(p, 5)}
        for c, p in zip(index.tolist(), probability.tolist(), strict=True)
    ]


def _tell(folder: Path, written: list[tuple[str, str]], numbers: dict[str, Any]) -> None:
    """Say what was written, and what it means."""
    paths = [str(folder / name) for name, _ in written]
    width = max(map(len, paths))
    for path, (_, shows) in zip(paths, written, strict=True):
        say(f"{path:<{width}}  {shows}")
    looks = len(numbers["fixations"])
    glances = f"{looks} glance{'s' if looks > 1 else ''} of {numbers['nodes']['retina']:,} samples"
    if numbers["weights"] == "random":
        say(
            f"{glances}. The weights are random, as this is a configuration, not a trained model: "
            "what is sampled and seen is real, the classes mean nothing."
        )
    else:
        best = numbers["top"][0]
        say(f"{glances}. Most likely class: {best['class']} ({best['probability']:.1%}).")
