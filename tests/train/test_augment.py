"""Variations of images: what is asked for happens, and nothing else."""

import pytest
import torch

from fovigraph.train import load_recipe
from fovigraph.train.augment import Augment


def augment(*overrides):
    return Augment(load_recipe("fovi_tiny", [f"augment.{each}" for each in overrides]).augment)


def varied(images, *overrides, seed=0):
    how = augment(*overrides)
    return how.images(images, how.draw(len(images), torch.Generator().manual_seed(seed)))


@pytest.fixture
def images():
    return torch.rand(6, 3, 12, 10)


def test_nothing_asked_nothing_done(images):
    assert varied(images) is images


def test_flip(images):
    torch.testing.assert_close(varied(images, "flip=1"), images.flip(-1))
    some = varied(images.expand(6, -1, -1, -1), "flip=0.5")
    flipped = (some == images.flip(-1)).flatten(1).all(1)
    assert ((some == images).flatten(1).all(1) ^ flipped).all()
    assert 0 < flipped.sum() < 6


def test_grey(images):
    grey = varied(images, "grey=1")
    weights = torch.tensor([0.299, 0.587, 0.114])
    wanted = torch.einsum("bchw,c->bhw", images, weights)[:, None].expand(-1, 3, -1, -1)
    torch.testing.assert_close(grey, wanted)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("brightness", lambda x, f: (x * f).clamp(0, 1)),
        ("hue", lambda x, f: x),  # grey has none
        ("saturation", lambda x, f: x),
    ],
)
def test_jitter_of_grey(name, change):
    grey = torch.rand(4, 1, 8, 8).expand(-1, 3, -1, -1) / 2
    others = [
        f"{each}=0" for each in ("brightness", "contrast", "saturation", "hue") if each != name
    ]
    how = augment("jitter=1", *others)
    drawn = how.draw(4, torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        how.images(grey, drawn),
        change(grey, drawn.brightness[:, None, None, None]),
        atol=1e-5,
        rtol=1e-4,
    )


def test_contrast_keeps_the_mean(images):
    others = ("brightness=0", "saturation=0", "hue=0")
    images = 0.4 + images / 5
    less = varied(images, "jitter=1", "contrast=0.5", *others)
    grey = torch.tensor([0.299, 0.587, 0.114])

    def mean(x):
        return torch.einsum("bchw,c->b", x, grey) / x[0, 0].numel()

    torch.testing.assert_close(mean(less), mean(images), atol=1e-3, rtol=0)
    assert not torch.allclose(less, images)


def test_blur_smooths_and_keeps_the_mean_inside():
    point = torch.zeros(2, 3, 41, 41)
    point[:, :, 20, 20] = 1
    blurred = varied(point, "blur=1", "blur_sigma=[2, 2]")
    torch.testing.assert_close(blurred.sum((2, 3)), torch.ones(2, 3), rtol=1e-4, atol=1e-4)
    at = torch.arange(41.0) - 20
    spread = (blurred[0, 0].sum(1) * at.square()).sum().sqrt()
    assert spread == pytest.approx(2, rel=0.05)


def test_blur_of_images_smaller_than_its_reach():
    assert varied(torch.rand(2, 3, 4, 5), "blur=1", "blur_sigma=[3, 3]").isfinite().all()


def test_what_is_picked_by_rows_is_what_the_whole_batch_gets(images):
    every = ("flip=0.5", "jitter=0.5", "grey=0.5", "blur=0.5")
    how = augment(*every)
    drawn, rows = how.draw(6, torch.Generator().manual_seed(3)), torch.tensor([1, 4, 5])
    whole = how.images(images, drawn)
    torch.testing.assert_close(how.images(images[rows], drawn.pick(rows)), whole[rows])
    assert ((whole >= 0) & (whole <= 1)).all()


def test_the_images_given_stay_as_they_are(images):
    before = images.clone()
    varied(images, "flip=1", "jitter=1", "grey=1", "blur=1")
    assert torch.equal(images, before)


def test_samples_change_colour_as_images_do():
    how = augment("when=after", "jitter=1", "contrast=0")
    samples = torch.rand(2, 3, 20, 3)  # images, views, nodes, channels
    drawn = how.draw(6, torch.Generator().manual_seed(0))
    seen = how.samples(samples, drawn)
    one = how.images(samples[1, 0].T[None, :, :, None], drawn.pick(torch.tensor([3])))
    torch.testing.assert_close(seen[1, 0], one[0, :, :, 0].T)
