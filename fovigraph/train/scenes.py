"""Handwritten digits in cluttered scenes: images in which it matters where one looks."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from fovigraph._checks import one_of, whole_number

COUNTS = {"train": 8000, "test": 2000}
"""Scenes of each split."""

DIGIT = (0.34, 0.42)
"""Smallest and largest height of the digit, as a fraction of the scene's."""

FRAGMENTS = (3, 6)
"""Fewest and most fragments in a scene."""

FRAGMENT = (0.3, 0.5)
"""Smallest and largest diameter of a fragment, as a fraction of the digit's height."""

GROUND = (0.1, 0.4)
"""Darkest and brightest mean of the ground, in each colour."""

UNEVENNESS = 0.1
"""Largest deviation of a place of the ground from the mean, in each colour."""

CONTRAST = (0.4, 0.6)
"""Least and most that ink is brighter than the ground, in each colour."""

NOISE = 0.05
"""Largest deviation of a pixel by noise, in each colour."""

TEST_EVERY = 5
"""One in so many digits of a class is kept for the test split."""


class Scenes:
    """scikit-learn's handwritten digits, each at a random place of a larger cluttered scene.

    Around the digit lie fragments of others (cut out, turned, and less high than a digit), on
    uneven and noisy ground, in random bright colours. A scene is a pure function of split, index
    and size. No digit is in both splits.

    Args:
        split: ``"train"`` or ``"test"``.
        size: Height and width of a scene, pixels.

    Raises:
        ValueError: If there is no such split, or ``size`` is below 32.
        ModuleNotFoundError: If scikit-learn is not installed.
    """

    classes = tuple("0123456789")

    def __init__(self, split: str, size: int = 64) -> None:
        one_of("split", split, COUNTS)
        if whole_number("size", size) < 32:
            raise ValueError(f"size of scenes with digits must be at least 32 pixels, got {size}")
        self.split = split
        self.size = size
        digits, self.labels = _digits(split)
        smallest, largest = (round(size * fraction) for fraction in DIGIT)
        self._inks = [_enlarged(digits, height) for height in range(smallest, largest + 1)]
        self._spread = _interpolation(size, 1 + size // largest)

    def __len__(self) -> int:
        return COUNTS[self.split]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return the scene, uint8 ``[3, size, size]``, and its digit."""
        if not 0 <= index < len(self):
            raise IndexError(f"index must be from 0 to {len(self) - 1}, got {index}")
        random = np.random.default_rng([list(COUNTS).index(self.split), index])
        which = index % len(self.labels)
        inks = self._inks[random.integers(len(self._inks))]
        scene = self._ground(random)
        height = inks.shape[1]
        corner = random.integers(0, self.size - height + 1, 2).tolist()
        _lay(inks[which], scene, corner, random)
        for _ in range(random.integers(FRAGMENTS[0], FRAGMENTS[1] + 1)):
            fragment = _fragment(inks, random)
            _lay(fragment, scene, _beside(corner, height, len(fragment), self.size, random), random)
        noise = np.frombuffer(random.bytes(scene.size), dtype=np.uint8).reshape(scene.shape)
        scene *= 255
        scene += (noise - np.float32(127.5)) * np.float32(2 * NOISE)
        pixels = scene.clip(0, 255).astype(np.uint8)
        return torch.from_numpy(pixels), int(self.labels[which])

    def _ground(self, random: np.random.Generator) -> np.ndarray:
        knots = self._spread.shape[1]
        mean = random.uniform(*GROUND, (3, 1, 1))
        knot_values = mean + random.uniform(-UNEVENNESS, UNEVENNESS, (3, knots, knots))
        return self._spread @ knot_values.astype(np.float32) @ self._spread.T


def _fragment(inks: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Cut a disc out of some digit, and turn it."""
    height = inks.shape[1]
    side = round(height * random.uniform(*FRAGMENT))
    row, column = random.integers(0, height - side + 1, 2)
    ink = inks[random.integers(len(inks)), row : row + side, column : column + side]
    return np.rot90(ink * _disc(side), int(random.integers(4)))


@cache
def _disc(side: int) -> np.ndarray:
    """Return a disc with a soft edge, as ink has, ``[side, side]``."""
    square = np.linspace(-1, 1, side, dtype=np.float32) ** 2
    return (3 * (1 - square[:, None] - square)).clip(0, 1)


def _beside(
    corner: list[int], height: int, side: int, size: int, random: np.random.Generator
) -> list[int]:
    """Draw the corner of a square that does not touch the digit."""
    while True:
        other = random.integers(0, size - side + 1, 2).tolist()
        if any(
            there + side <= here or here + height <= there
            for here, there in zip(corner, other, strict=True)
        ):
            return other


def _lay(
    ink: np.ndarray, scene: np.ndarray, corner: list[int], random: np.random.Generator
) -> None:
    """Lay ink on a place of the scene, in some colour brighter than the ground."""
    (row, column), side = corner, len(ink)
    place = scene[:, row : row + side, column : column + side]
    colour = place.mean((1, 2)) + random.uniform(*CONTRAST, 3)
    place += ink * (colour.astype(np.float32)[:, None, None] - place)


def _digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the digits of a split, ink ``[N, 8, 8]`` in [0, 1], and their labels ``[N]``."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the digits come with scikit-learn, which is not installed: "
            "pip install 'fovigraph[train]'"
        ) from error
    pixels, labels = load_digits(return_X_y=True)
    rank = np.empty(len(labels), dtype=np.int64)  # of a digit within its class
    for label in range(10):
        members = labels == label
        rank[members] = np.arange(members.sum())
    kept = (rank % TEST_EVERY == 0) == (split == "test")
    return pixels[kept].reshape(-1, 8, 8) / 16, labels[kept]


def _enlarged(digits: np.ndarray, height: int) -> np.ndarray:
    """Enlarge digits to ``height``² pixels, by splines."""
    from scipy.ndimage import zoom

    side = digits.shape[1]
    rows = zoom(np.eye(side), (height / side, 1), mode="grid-constant", grid_mode=True)
    return (rows @ digits @ rows.T).clip(0, 1).astype(np.float32)


def _interpolation(size: int, knots: int) -> np.ndarray:
    """Return the matrix ``[size, knots]`` that interpolates linearly between evenly set knots."""
    at = np.linspace(0, knots - 1, size)[:, None]
    return (1 - abs(at - np.arange(knots))).clip(0).astype(np.float32)
