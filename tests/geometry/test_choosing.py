"""Choosing *a*: figures that must come out, and what cannot be."""

import math

import pytest

from fovigraph.geometry import SensorArray, cmf_a_of_nodes, cmf_a_of_pixels


@pytest.mark.parametrize(
    ("view", "cmf_a"),
    [
        ((256, 64, 16), 0.7628046),
        ((512, 64, 32), 0.5336273),
        ((224, 224, 14), 383.82988),
        ((128, 64, 32.5), 5.7268386),
        ((64, 64, 4), 29.663261),
        ((3000, 64, 35.48), 0.0583623),  # where upstream's search gets stuck, and in the next
        ((256, 8, 16), 0.0063903),
    ],
)
def test_the_first_ring_is_one_pixel_from_the_gaze(view, cmf_a):
    found = cmf_a_of_pixels(*view)
    assert found == pytest.approx(cmf_a, rel=1e-5)
    size, side, fov = view
    first = found * math.expm1(math.log1p(fov / 2 / found) / (side // 2 - 1))  # degrees
    assert first * size / fov == pytest.approx(1, abs=1e-9)


def test_a_network_that_is_chosen_so():
    retina = SensorArray.matched(64, cmf_a=cmf_a_of_pixels(256, 64, 16))
    assert [len(retina.with_side(side)) for side in (64, 32, 16, 8)] == [3950, 967, 252, 47]


def test_every_resolution_that_can_have_so_many_nodes():
    found = cmf_a_of_nodes(64)
    assert found[-2:] == [
        (pytest.approx(2.785765, abs=1e-6), 6),
        (pytest.approx(60.936638, abs=1e-6), 5),
    ]
    assert all(len(SensorArray(resolution, cmf_a=a)) == 64 for a, resolution in found)
    resolutions = [resolution for _, resolution in found]
    for resolution in range(1, 65):
        counts = {len(SensorArray(resolution, cmf_a=10 ** (i / 20 - 3))) for i in range(121)}
        assert (64 not in counts) or resolution in resolutions
    assert cmf_a_of_nodes(64, layout="uniform_disc") == []


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ((62, 64, 16), "view_size must be above 62 pixels for side=64, got 62"),
        ((1e9, 4, 16), "view_size must be smaller for side=4 and fov=16"),
        ((256, 3, 16), "side must be at least 4 pixels, got 3"),
        ((0, 64, 16), "view_size must be finite and above 0"),
        ((256, 64, 400), "fov must be from 0.001 to 360"),
    ],
)
def test_what_no_magnification_gives_is_refused(view, message):
    with pytest.raises(ValueError, match=message):
        cmf_a_of_pixels(*view)


def test_numbers_of_nodes_that_are_none_are_refused():
    with pytest.raises(ValueError, match="nodes must be at least 1, got 0"):
        cmf_a_of_nodes(0)
    with pytest.raises(ValueError, match="layout must be one of"):
        cmf_a_of_nodes(5, layout="square")
