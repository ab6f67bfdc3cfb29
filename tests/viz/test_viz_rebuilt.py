"""Images rebuilt from samples."""

import pytest
import torch

import fovigraph as fg
from fovigraph.viz import plot_rebuilt, rebuild
from fovigraph.viz.cells import pixels_degrees
from fovigraph.viz.field import Field
from fovigraph.viz.rebuilt import METHODS


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_image_stays_constant(array, method):
    image = torch.full((1, 3, 90, 90), 0.25)
    samples = fg.Retina(array, fixation_size=60)(image, [[0.5, 0.5]])[0, 0]
    picture = rebuild(array, samples, 61, method=method)
    edge = Field(array).edge
    inside = pixels_degrees(61, 61, (-edge, edge, -edge, edge))
    inside = torch.from_numpy((inside**2).sum(1) <= edge**2).unflatten(0, (61, 61))
    torch.testing.assert_close(picture[:, inside], torch.full_like(picture[:, inside], 0.25))
    assert (picture[:, ~inside] == 0).all()


def test_a_bright_pixel_lights_the_node_that_samples_it(array):
    retina = fg.Retina(array, "nearest", fixation_size=400)
    node = 80
    row, column = retina.pixels([[0.5, 0.5]], (400, 400))[0, node].long().tolist()
    image = torch.zeros(1, 3, 400, 400)
    image[..., row, column] = 1
    samples = retina(image, [[0.5, 0.5]])[0, 0]
    assert samples.sum(dim=1).nonzero().squeeze(1).tolist() == [node]

    side, edge = 201, Field(array).edge
    picture = rebuild(array, samples, side, method="nearest")
    places = torch.from_numpy(pixels_degrees(side, side, (-edge, edge, -edge, edge)))
    nearest = torch.cdist(places, array.cartesian * (array.fov / 2)).argmin(dim=1)
    lit = (nearest == node) & (places.norm(dim=1) <= edge)
    assert lit.any()
    assert torch.equal(picture[0].flatten() == 1, lit)
    x, y = (array.cartesian[node] * (array.fov / 2)).tolist()
    at = int((edge - y) / (2 * edge) * side), int((edge + x) / (2 * edge) * side)
    assert picture[0][at] == 1  # the right way up
    assert rebuild(array, samples, side)[0][at] > 0.5


def test_numbers_and_single_nodes_too(array):
    assert rebuild(array, array.eccentricity, 30).shape == (30, 30)
    assert (rebuild(fg.SensorArray(1), [[0.5] * 3], 8).amax((1, 2)) == 0.5).all()


def test_figure_shows_the_view_and_two_images(array, image):
    figure = plot_rebuilt(image, array, torch.rand(len(array), 3), (0.5, 0.5), (40, 40))
    assert len(figure.axes) == 3
    assert all("(degrees)" in ax.get_xlabel() for ax in figure.axes)
    assert len({ax.get_xlim() for ax in figure.axes}) == 1


def test_bad_arguments(array):
    with pytest.raises(ValueError, match="samples must have shape"):
        rebuild(array, torch.rand(3, 3))
    with pytest.raises(ValueError, match="method must be one of 'linear', 'nearest'"):
        rebuild(array, torch.rand(len(array), 3), 8, method="cubic")
    with pytest.raises(ValueError, match="side must be at least 1"):
        rebuild(array, torch.rand(len(array), 3), 0)
