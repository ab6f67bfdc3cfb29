"""Normalisation of what the retina samples."""

import pytest
import torch

import fovigraph as fg
from fovigraph.sensing import Retina
from fovigraph.sensing.retina import SAMPLINGS

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def array():
    return fg.SensorArray.matched(16)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_equals_sampling_a_normalised_image(array, sampling):
    images = torch.rand(2, 3, 30, 40)
    fixations = torch.tensor([[0.5, 0.5], [0.1, 0.95]])
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    expected = Retina(array, sampling)((images - mean) / std, fixations)
    found = Retina(array, sampling, mean=MEAN, std=STD)(images, fixations)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_outside_the_image_stays_zero(array, sampling):
    retina = Retina(array, sampling, mean=MEAN, std=STD)
    samples = retina(torch.rand(1, 3, 30, 40), [[-0.9, -0.9]])
    assert torch.equal(samples, torch.zeros_like(samples))


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("options", [{}, {"mean": MEAN, "std": STD}], ids=["plain", "normalised"])
def test_colours_are_varied_before_they_are_normalised_and_only_within_the_image(
    array, sampling, options
):
    retina = Retina(array, sampling, **options)
    images, fixations = torch.rand(2, 3, 30, 40), [[0.5, 0.5], [-0.2, 0.9]]
    inside = Retina(array, sampling)(torch.ones(2, 1, 30, 40), fixations)
    varied = 0.3 + retina.colors(images, fixations) / 2
    if options:
        varied = (varied - inside * retina.mean) / retina.std
    found = retina(images, fixations, vary=lambda colors: 0.3 + colors / 2)
    assert (inside == 0).any() and (inside == 1).any()
    torch.testing.assert_close(found, torch.where(inside == 0, 0.0, varied))
    assert not found[(inside == 0).expand_as(found)].any()


def test_colors_are_left_as_they_are(array):
    images, fixations = torch.rand(1, 3, 30, 40), [[0.5, 0.5]]
    plain, normal = Retina(array), Retina(array, mean=MEAN, std=STD)
    assert torch.equal(normal.colors(images, fixations), plain(images, fixations))


def test_uint8_images_are_the_same_images(array):
    images = torch.randint(256, (1, 3, 30, 40), dtype=torch.uint8)
    retina = Retina(array, "nearest", mean=MEAN, std=STD)
    torch.testing.assert_close(retina(images, [[0.5, 0.5]]), retina(images / 255, [[0.5, 0.5]]))


def test_it_follows_the_fading_of_colours(array):
    images, fixations = torch.rand(1, 3, 30, 40), [[0.5, 0.5]]
    faded = Retina(array, "nearest", color_decay=2.0)(images, fixations)
    found = Retina(array, "nearest", color_decay=2.0, mean=MEAN, std=STD)(images, fixations)
    expected = (faded - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(found, expected)


def test_means_keep_single_precision_in_a_half_precision_network(array):
    retina = Retina(array, mean=MEAN, std=STD).bfloat16()
    assert torch.equal(retina.mean, torch.tensor(MEAN))


def test_a_network_normalises_as_its_configuration_says():
    options = [f"retina.mean={list(MEAN)}", f"retina.std={list(STD)}"]
    net = fg.FoviNet(fg.load_config("fovi_tiny", options))
    assert torch.equal(net.retina.std, torch.tensor(STD))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": MEAN}, "must be given together"),
        ({"std": STD}, "must be given together"),
        ({"mean": MEAN, "std": STD[:2]}, "one entry a channel"),
        ({"mean": MEAN, "std": (0.2, 0.0, 0.2)}, "std finite and above 0"),
        ({"mean": (0.5, float("nan"), 0.5), "std": STD}, "mean must be finite"),
    ],
)
def test_bad_means_are_refused(array, options, message):
    with pytest.raises(ValueError, match=message):
        Retina(array, **options)


def test_images_of_other_channels_are_refused(array):
    retina = Retina(array, mean=MEAN, std=STD)
    with pytest.raises(ValueError, match="images must have 3 channels, as mean and std"):
        retina(torch.rand(1, 4, 30, 40), [[0.5, 0.5]])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("retina.mean=[0.5,0.5,0.5]", "retina.mean and retina.std must be given together"),
        ("retina.mean=[0.5] retina.std=[0.5]", "must have 3 entries"),
        ("retina.mean=[0,0,0] retina.std=[1,1,0]", r"retina.std\[2\] must be finite and above 0"),
    ],
)
def test_bad_configurations_are_refused(override, message):
    with pytest.raises(fg.ConfigError, match=message):
        fg.load_config("fovi_tiny", override.split())
