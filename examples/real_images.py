"""The images that the other examples train on, and what their command lines share.

Without options: crops of the photographs that ship with scikit-image (the extra ``demo``). With
``--images``: a folder with one subfolder for each class, or a parquet file with the columns
``image`` and ``label``, as data sets on the Hugging Face Hub have them (needs pyarrow).

Run it, ``python examples/real_images.py``, to see what there is.
"""

import argparse
import io
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import fovigraph as fg

KINDS = ("brick", "coins", "grass", "gravel", "hubble_deep_field", "ihc", "moon", "page")
"""What is to be told apart, from grey crops: a wall, coins, a lawn, pebbles, galaxies, stained
tissue, the moon's face, print."""

SCENES = ("astronaut", "brick", "coffee", "coins", "grass", "ihc", "motorcycle_left", "rocket")
UNSEEN = ("chelsea", "camera")
"""Photographs to learn to see from, and to be judged on."""


class Images(NamedTuple):
    """uint8 ``[B, 3, side, side]`` and labels ``[B]``, to learn from and to be judged on."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: list[str]


def arguments(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--images", type=Path, help="folder of class folders, or a parquet file")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="for the figure")
    parser.add_argument("--quick", action="store_true", help="a few steps only, to see it run")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    return options


def labelled_images(path: Path | None, side: int, train: int, test: int) -> Images:
    """Return images in classes: from ``path``, or crops of the KINDS, left half against right."""
    if path is None:
        return Images(*_kinds(side, train, 0.0, 0.55), *_kinds(side, test, 0.6, 1.0), list(KINDS))
    files = _parquet(path) if path.is_file() else _folder(path)
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(0)).tolist()
    files = [files[index] for index in order[: train + test]]
    classes = sorted({str(label) for _, label in files})
    images = torch.stack([_fit(image, side) for image, _ in files])
    labels = torch.tensor([classes.index(str(label)) for _, label in files])
    cut = len(files) * train // (train + test)
    return Images(images[:cut], labels[:cut], images[cut:], labels[cut:], classes)


def unlabelled_images(path: Path | None, side: int, train: int, test: int) -> tuple[Tensor, Tensor]:
    """Return images to learn from and to be judged on, of different photographs."""
    if path is not None:
        images = labelled_images(path, side, train, test)
        return images.train, images.test
    return (
        torch.cat([_crops(name, side, train // len(SCENES), 0, 1) for name in SCENES]),
        torch.cat([_crops(name, side, test // len(UNSEEN), 0, 1) for name in UNSEEN]),
    )


def _kinds(side: int, count: int, left: float, right: float) -> tuple[Tensor, Tensor]:
    each = count // len(KINDS)
    crops = torch.cat([_crops(name, side, each, left, right).float() for name in KINDS])
    grey = crops.mean(dim=1, keepdim=True)  # without colour and contrast, which would tell them
    deviation, mean = torch.std_mean(grey, dim=(2, 3), keepdim=True)
    even = (128 + 50 * (grey - mean) / deviation.clamp(min=1)).clamp(0, 255).byte()
    return even.expand(-1, 3, -1, -1), torch.arange(len(KINDS)).repeat_interleave(each)


def _crops(name: str, side: int, count: int, left: float, right: float) -> Tensor:
    """Cut squares of 0.2 to 0.38 of a photograph's shorter side, turned by right angles."""
    import skimage.data

    files = (Path(skimage.data.__file__).parent / f"{name}{end}" for end in (".png", ".jpg"))
    pixels = fg.read_image(next(file for file in files if file.exists()))
    random = np.random.default_rng([*name.encode(), int(100 * left)])
    _, height, width = pixels.shape
    crops = []
    for _ in range(count):
        size = int(min(height, width) * random.uniform(0.2, 0.38))
        row = random.integers(0, height - size + 1)
        column = random.integers(int(left * width), int(right * width) - size + 1)
        crop = pixels[:, row : row + size, column : column + size]
        crop = torch.rot90(crop, int(random.integers(4)), dims=(1, 2))
        crops.append(_fit(Image.fromarray(crop.permute(1, 2, 0).numpy()), side))
    return torch.stack(crops)


def _fit(image: Image.Image | Path, side: int) -> Tensor:
    """Cut the central square and scale it."""
    image = Image.fromarray(fg.data.as_image(image).permute(1, 2, 0).numpy())
    short = min(image.size)
    left, top = ((length - short) // 2 for length in image.size)
    square = image.crop((left, top, left + short, top + short))
    scaled = square.resize((side, side), Image.Resampling.BOX if short > side else None)
    return torch.from_numpy(np.array(scaled)).permute(2, 0, 1).contiguous()


def _folder(path: Path) -> list[tuple[Path, str]]:
    suffixes = Image.registered_extensions()
    files = [file for file in sorted(path.glob("*/*")) if file.suffix.lower() in suffixes]
    if not files:
        raise SystemExit(f"no images in subfolders of {path}: one subfolder for each class")
    return [(file, file.parent.name) for file in files]


def _parquet(path: Path) -> list[tuple[Image.Image, str]]:
    from pyarrow.parquet import read_table

    table = read_table(path, columns=["image", "label"]).slice(0, 20_000).to_pylist()
    return [(Image.open(io.BytesIO(row["image"]["bytes"])), row["label"]) for row in table]


class Stopwatch:
    """Seconds of processor time, all threads together, and of the clock."""

    def __init__(self) -> None:
        self.processor, self.clock = time.process_time(), time.perf_counter()

    def __str__(self) -> str:
        processor = time.process_time() - self.processor
        return f"{processor:.0f} s of processor time, {time.perf_counter() - self.clock:.0f} s"


if __name__ == "__main__":
    images = labelled_images(None, 64, 80, 40)
    print(f"{len(images.train)} + {len(images.test)} crops of {', '.join(images.classes)}")
