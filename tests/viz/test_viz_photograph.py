"""The photograph as pixels to be drawn."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fovigraph.viz.photograph import LARGEST_SIDE, photograph


@pytest.mark.parametrize("size", [(1300, 40), (40, 1300), (1201, 1), (1, 2500), (1200, 7), (3, 4)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_a_large_one_is_averaged_down(size, dtype):
    image = torch.randint(256, (3, *size)).to(dtype)
    image = image if dtype == torch.uint8 else image / 255
    scale = min(1, LARGEST_SIDE / max(size))
    small = [max(1, round(side * scale)) for side in size]
    whole = image / 255 if dtype == torch.uint8 else image
    expected = F.interpolate(whole[None].float(), small, mode="area")[0]
    photo = photograph(image)
    assert (photo.height, photo.width) == size
    np.testing.assert_array_equal(photo.pixels, expected.movedim(0, -1).numpy())


def test_a_large_one_does_not_become_floating_point(largest):
    image = torch.zeros(3, 2400, 1800, dtype=torch.uint8)
    with largest(image) as made:
        photograph(image)
    assert made.bytes <= 4 * 3 * 1200 * 900


def test_arrays_may_have_any_strides():
    image = np.random.default_rng(0).integers(0, 256, (3, 4, 5), dtype=np.uint8)
    for view in (image[:, ::-1], image[::-1], np.asfortranarray(image)):
        np.testing.assert_array_equal(
            photograph(view).pixels, photograph(torch.from_numpy(view.copy())).pixels
        )


@pytest.mark.parametrize("image", [None, 3, [[0.5]], np.zeros((3, 4, 4), ">f4"), "cat.jpg"])
def test_what_is_no_image_is_refused(image):
    with pytest.raises(TypeError, match=r"^images? must be"):
        photograph(image)
