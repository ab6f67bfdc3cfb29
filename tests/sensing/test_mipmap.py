"""Samples of the sampling "area": means over nodes' cells, from a mip-map."""

import itertools
import math

import pytest
import torch

from fovigraph import Retina, SensorArray
from fovigraph.sensing.mipmap import mean_over_cells


def smooth(height, width):
    """An image that varies slowly beside one that varies within every cell."""
    row = torch.linspace(0, 3, height)[:, None]
    column = torch.linspace(0, 2, width)
    wave = 0.5 + 0.25 * row.sin() + 0.2 * column.cos()
    board = (torch.arange(height)[:, None] + torch.arange(width)) % 2
    return torch.stack((wave, board.float().expand(height, width), wave.flip(0)))[None]


def supersampled(images, places, sides, across=64):
    """The mean of nearest pixels at across² places of every cell: what is to be approximated."""
    offset = (torch.arange(across) + 0.5) / across - 0.5
    offset = torch.cartesian_prod(offset, offset)
    where = (places[..., None, :] + offset * sides[..., None, None]).floor().long()
    row, column = where.unbind(-1)
    height, width = images.shape[-2:]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    image = torch.arange(len(images)).view(-1, 1, 1, 1)
    values = images.movedim(1, -1)[image, row.clamp(0, height - 1), column.clamp(0, width - 1)]
    return (values * inside[..., None]).mean(-2)


def integral(image, row, column, side):
    """The mean of an image over one square cell, each pixel by how much of it the cell covers."""
    shares = []
    for middle, size in zip((row, column), image.shape[-2:], strict=True):
        pixel = torch.arange(size, dtype=torch.float64)
        low, high = middle - side / 2, middle + side / 2
        shares.append((pixel.add(1).clamp(max=high) - pixel.clamp(min=low)).clamp(min=0) / side)
    return torch.einsum("chw,h,w->c", image.double(), *shares)


def between(image, row, column):
    """An image's value between the centres of four pixels; what lies outside is black."""
    padded = torch.nn.functional.pad(image.double(), (2, 2, 2, 2))
    row, column = (
        min(max(at, -1.0), size + 1.0) + 1.5
        for at, size in zip((row, column), image.shape[-2:], strict=True)
    )
    i, j = math.floor(row), math.floor(column)
    p, q = row - i, column - j
    top = (1 - q) * padded[:, i, j] + q * padded[:, i, j + 1]
    return (1 - p) * top + p * ((1 - q) * padded[:, i + 1, j] + q * padded[:, i + 1, j + 1])


def by_definition(image, row, column, side):
    """A sample: between two levels of the mip-map, one halving after the other."""
    levels = [image.double()]
    while max(levels[-1].shape[-2:]) > 1:
        down, right = (size % 2 for size in levels[-1].shape[-2:])
        even = torch.nn.functional.pad(levels[-1], (0, right, 0, down))
        levels.append(torch.nn.functional.avg_pool2d(even, 2))
    level = min(max(math.log2(side / math.sqrt(3)), 0.0), len(levels) - 1.0)
    low = min(math.floor(level), max(len(levels) - 2, 0))
    near, far = (
        between(levels[min(i, len(levels) - 1)], row / 2**i, column / 2**i) for i in (low, low + 1)
    )
    return near + (level - low) * (far - near)


def one_over_f(height, width, channels=3):
    """Noise with the spectrum of photographs, in [0, 1]."""
    noise = torch.randn(channels, height, width, generator=torch.Generator().manual_seed(0))
    down, right = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    spectrum = torch.fft.rfft2(noise) / (down**2 + right**2).sqrt().clamp(min=1 / height)
    image = torch.fft.irfft2(spectrum, (height, width))
    return (image - image.min()) / (image.max() - image.min())


@pytest.mark.parametrize("size", [(37, 52), (64, 33), (5, 2)])
def test_is_as_defined(size):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, *size, dtype=torch.float64, generator=generator)
    places = torch.rand(2, 2, 30, 2, dtype=torch.float64, generator=generator)
    places = (1.5 * places - 0.25) * torch.tensor(size)  # some of them outside
    sides = 2 ** (8 * torch.rand(2, 2, 30, dtype=torch.float64, generator=generator) - 2)
    expected = torch.stack(
        [
            by_definition(images[index[0]], *places[index].tolist(), sides[index].item())
            for index in itertools.product(range(2), range(2), range(30))
        ]
    ).view(2, 2, 30, 3)
    torch.testing.assert_close(mean_over_cells(images, places, sides), expected)


def test_is_at_most_a_third_as_far_from_the_integral_over_cells_as_the_nearest_pixel():
    image, array = one_over_f(200, 260), SensorArray.matched(32)
    retina, fixation = Retina(array, "area"), torch.tensor([[0.45, 0.55]])
    (places,) = retina.pixels(fixation, (200, 260))
    sides = 200 * retina.cells
    exact = torch.stack(
        [
            integral(image, *place, side)
            for place, side in zip(places.tolist(), sides.tolist(), strict=True)
        ]
    )
    area, nearest = (
        (Retina(array, sampling)(image[None], fixation)[0, 0] - exact).abs().mean()
        for sampling in ("area", "nearest")
    )
    assert area < nearest / 3


def test_views_of_different_sizes_are_independent():
    images, retina = torch.rand(2, 3, 40, 50), Retina(SensorArray.matched(16), "area")
    fixations = torch.rand(2, 3, 2, generator=torch.Generator().manual_seed(0))
    sizes = 10 + 40 * torch.rand(2, 3, 2, generator=torch.Generator().manual_seed(1))
    together = retina(images, fixations, sizes)
    for b, f in itertools.product(range(2), range(3)):
        alone = retina(images[b : b + 1], fixations[b : b + 1, f : f + 1], sizes[b, f])
        torch.testing.assert_close(together[b, f], alone[0, 0])


def test_a_constant_is_its_own_mean():
    places = torch.rand(2, 3, 50, 2) * 40 + 30
    sides = torch.rand(2, 3, 50) * 20
    mean = mean_over_cells(torch.full((2, 3, 101, 100), 0.3), places, sides)
    assert torch.allclose(mean, torch.tensor(0.3))


def test_is_near_the_mean_over_cells():
    images = smooth(97, 150)
    generator = torch.Generator().manual_seed(0)
    places = torch.rand(1, 1, 400, 2, generator=generator) * torch.tensor([97.0, 150.0])
    sides = 4 + 20 * torch.rand(1, 1, 400, generator=generator)
    mean = mean_over_cells(images, places, sides)
    error = (mean - supersampled(images, places, sides)).abs()
    within = (places > sides[..., None]) & (places < torch.tensor([97.0, 150.0]) - sides[..., None])
    assert error[within.all(-1)].max() < 0.03
    assert error.mean() < 0.02


def test_small_cells_are_interpolated():
    images, array = torch.rand(2, 3, 40, 40), SensorArray.matched(32, cmf_a=4.0)
    area, bilinear = Retina(array, "area"), Retina(array, "bilinear")
    assert torch.allclose(
        area(images, [[0.4, 0.6]], 8), bilinear(images, [[0.4, 0.6]], 8), atol=1e-5
    )


def test_uint8_stands_for_fractions():
    images = torch.randint(0, 256, (2, 3, 77, 130), dtype=torch.uint8)
    retina = Retina(SensorArray.matched(24), "area")
    fixations = [[0.5, 0.5], [0.1, 0.9]]
    assert torch.allclose(
        retina(images, fixations), retina(images.float() / 255, fixations), atol=1e-6
    )


def test_what_is_outside_is_black():
    retina = Retina(SensorArray.matched(24), "area")
    samples = retina(torch.ones(1, 1, 50, 50), [[-1.0, -1.0]])
    assert (samples == 0).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3, 2)])
def test_tiny_images(size):
    samples = Retina(SensorArray.matched(12), "area")(torch.ones(1, 3, *size), [[0.5, 0.5]])
    assert samples.isfinite().all()
    assert samples.max() <= 1 + 1e-6


def test_gradients_with_respect_to_images_and_places():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 2, 9, 11, dtype=torch.float64, generator=generator, requires_grad=True)
    places = 1 + 7 * torch.rand(1, 1, 6, 2, dtype=torch.float64, generator=generator)
    sides = torch.tensor([0.5, 1.9, 2.7, 4.1, 6.3, 9.0], dtype=torch.float64).view(1, 1, 6)
    assert torch.autograd.gradcheck(
        lambda image, where: mean_over_cells(image, where, sides), (images, places.requires_grad_())
    )


def test_half_precision_moves_no_cells():
    retina = Retina(SensorArray.matched(16), "area")
    cells = retina.cells.clone()
    assert torch.equal(retina.half().cells, cells)
