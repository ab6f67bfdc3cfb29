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
        area(images, [[0.4, 0.6]], 8), bilinear(images, [[0.4, 0.6]], 8), atol=1e-6
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
