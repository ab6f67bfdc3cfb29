"""Measures anti-aliased sampling: how near to the mean over nodes' cells, and how fast.

    python benchmarks/antialias.py --photos FOLDER

A retina of side 64 looks at every photograph of a folder, as it is, in four places. The reference
of a sample is the mean of 32² pixels spread evenly over the node's own cell, the square whose side
is the node's distance to its neighbours; errors are mean absolute differences from it, in units of
white. Each sampling is timed on each photograph, in turns. README.md says how to read the result.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial
from pathlib import Path

import torch
from common import CMF_A, FOLDER, FOV, machine, print_table, ratio, seconds_of, write_json
from torch import Tensor

from fovigraph import Retina, SensorArray, read_image

SIDE = 64
SAMPLINGS = ("nearest", "bilinear", "area")
ACROSS = 32
"""Pixels of the reference along a cell's side."""


def main() -> None:
    """Measures, prints the table, writes the result."""
    options = parse()
    torch.set_num_threads(options.threads)
    retinas = {name: Retina(SensorArray.matched(SIDE), name) for name in SAMPLINGS}
    generator = torch.Generator().manual_seed(0)
    errors: dict[str, list[float]] = {name: [] for name in SAMPLINGS}
    seconds: dict[str, list[float]] = {name: [] for name in SAMPLINGS}
    photos = sorted(path for path in options.photos.iterdir() if path.is_file())
    for path in photos:
        image = read_image(path)[None]
        fixations = 0.25 + 0.5 * torch.rand(options.fixations, 2, generator=generator)
        expected = reference(retinas["area"], image, fixations)
        rounds: dict[str, list[float]] = {name: [] for name in SAMPLINGS}
        for name, retina in retinas.items():
            errors[name].append((retina(image, fixations)[0] - expected).abs().mean().item())
        for _ in range(options.repeats):
            for name, retina in retinas.items():
                rounds[name] += seconds_of(partial(retina, image, fixations), 1)
        for name, times in rounds.items():
            seconds[name].append(statistics.median(times))
    result = {
        name: {
            "error": statistics.mean(errors[name]),
            "error_of_nearest": ratio(
                statistics.mean(errors[name]), statistics.mean(errors["nearest"])
            ),
            "ms": 1e3 * statistics.mean(seconds[name]),
            "time_of_nearest": statistics.median(
                a / b for a, b in zip(seconds[name], seconds["nearest"], strict=True)
            ),
        }
        for name in SAMPLINGS
    }
    print_table(
        ["sampling", "error", "of nearest's", "ms", "of nearest's"],
        [[name, *figures.values()] for name, figures in result.items()],
    )
    write_json(
        options.json or FOLDER / "results" / "antialias.json",
        {
            "fov": FOV,
            "cmf_a": CMF_A,
            "side": SIDE,
            "photographs": len(photos),
            "fixations": options.fixations,
            "repeats": options.repeats,
            "machine": machine(options.threads),
            "samplings": result,
        },
    )


def reference(retina: Retina, image: Tensor, fixations: Tensor) -> Tensor:
    """Return the means over cells, ``[F, N, C]``."""
    assert retina.cells is not None  # those of the sampling "area"
    height, width = image.shape[2:]
    padded = torch.nn.functional.pad(image[0].float() / 255, (1, 1, 1, 1))
    places = retina.pixels(fixations, (height, width))
    sides = min(height, width) * retina.cells
    offset = (torch.arange(ACROSS) + 0.5) / ACROSS - 0.5
    total = torch.zeros(*places.shape[:-1], image.shape[1])
    for down in offset.tolist():
        for right in offset.tolist():
            at = (places + sides[:, None] * torch.tensor([down, right])).floor().long() + 1
            row, column = at[..., 0].clamp(0, height + 1), at[..., 1].clamp(0, width + 1)
            total += padded[:, row, column].movedim(0, -1)
    return total / ACROSS**2


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--fixations", type=int, default=4, help="of each photograph")
    parser.add_argument("--repeats", type=int, default=21, help="timed calls of each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write the result")
    return parser.parse_args()


if __name__ == "__main__":
    main()
