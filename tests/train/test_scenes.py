"""The digits in cluttered scenes that training falls back on."""

import hashlib

import numpy as np
import pytest
import torch

from fovigraph.train import scenes
from fovigraph.train.scenes import Scenes

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def train():
    return Scenes("train", 64)


def test_scenes_are_rgb_squares_with_a_digit_for_a_label(train):
    for index in (0, 17, len(train) - 1):
        image, label = train[index]
        assert image.dtype == torch.uint8 and image.shape == (3, 64, 64)
        assert isinstance(label, int) and 0 <= label < len(Scenes.classes) == 10


@pytest.mark.parametrize("size", [32, 50, 96])
def test_any_size_from_32_pixels(size):
    assert Scenes("test", size)[3][0].shape == (3, size, size)


def test_a_scene_depends_on_split_index_and_size_alone(train):
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    first = Scenes("train", 64)[5][0]
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    train[4], train[6]
    assert torch.equal(train[5][0], first)
    assert not torch.equal(train[5 + len(train.labels)][0], first)  # same digit, another scene
    assert not torch.equal(Scenes("test", 64)[5][0], first)


def test_random_state_is_left_alone(train):
    before = torch.get_rng_state()
    train[0]
    assert torch.equal(torch.get_rng_state(), before)


def test_no_digit_is_in_both_splits():
    digits = {
        split: {hashlib.sha256(ink.tobytes()).digest() for ink in scenes._digits(split)[0]}
        for split in ("train", "test")
    }
    assert not digits["train"] & digits["test"]
    assert len(digits["train"] | digits["test"]) == 1797


@pytest.mark.parametrize("split", ["train", "test"])
def test_classes_are_balanced(split):
    labels = Scenes(split).labels
    shown = np.bincount(labels[np.arange(scenes.COUNTS[split]) % len(labels)])
    assert shown.min() > 0.9 * shown.max()


def test_the_digit_is_anywhere_and_nothing_lies_on_it(train, monkeypatch):
    corners = []
    lay = scenes._lay

    def spy(ink, scene, corner, random):
        corners.append((corner, len(ink)))
        lay(ink, scene, corner, random)

    monkeypatch.setattr(scenes, "_lay", spy)
    places = []
    for index in range(200):
        corners.clear()
        train[index]
        (row, column), height = corners[0]
        places.append(((row + height / 2) / 64, (column + height / 2) / 64))
        for (other_row, other_column), side in corners[1:]:
            beside = other_column + side <= column or column + height <= other_column
            above = other_row + side <= row or row + height <= other_row
            assert beside or above
    low, high = np.quantile(places, [0.05, 0.95], axis=0)
    assert (low < 0.25).all() and (high > 0.75).all()


def test_mean_colours_do_not_tell_the_digit(train):
    """Nearest class mean of the mean colours: no better than chance."""
    images, labels = zip(*(train[index] for index in range(600)), strict=True)
    means, labels = torch.stack(images).float().mean((2, 3)), torch.tensor(labels)
    classes = torch.stack([means[:400][labels[:400] == label].mean(0) for label in range(10)])
    guesses = torch.cdist(means[400:], classes).argmin(1)
    assert (guesses == labels[400:]).float().mean() < 0.2


def test_unknown_split_and_too_small_a_size():
    with pytest.raises(ValueError, match="split must be one of 'test', 'train', got 'val'"):
        Scenes("val")
    with pytest.raises(TypeError, match=r"size must be a whole number .*, got '64'"):
        Scenes("train", "64")
    with pytest.raises(ValueError, match="must be at least 32 pixels, got 31"):
        Scenes("train", 31)


def test_index_beyond_the_end(train):
    with pytest.raises(IndexError, match="index must be from 0 to 7999, got 8000"):
        train[8000]
