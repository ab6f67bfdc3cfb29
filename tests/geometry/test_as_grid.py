"""Arrays that are images, and dense networks that reach around them."""

import pytest
import torch
from torch import nn

import fovigraph as fg
from fovigraph.nn import around


@pytest.mark.parametrize(
    ("layout", "row"),
    [
        ("warped_cartesian", [3, 7, 11, 15]),
        ("uniform_square", [3, 7, 11, 15]),
        ("logpolar_image", [0, 1, 2, 3]),
    ],
)
def test_the_top_row_of_an_image(layout, row):
    array = fg.SensorArray(4, layout=layout)
    assert array.grid[0].tolist() == row
    assert sorted(array.grid.flatten().tolist()) == list(range(16))
    image = array.as_grid(torch.arange(32.0).view(16, 2))
    assert image.shape == (2, 4, 4)
    assert image[0, 0].tolist() == [2 * node for node in row]


@pytest.mark.parametrize("layout", ["uniform_square", "warped_cartesian"])
def test_lattices_are_upright(layout):
    array = fg.SensorArray(8, layout=layout)
    x, y = array.as_grid(array.cartesian)
    assert (x.diff(dim=1) > 0).all()
    assert (y.diff(dim=0) < 0).all()


def test_angles_are_rows_of_a_log_polar_image():
    array = fg.SensorArray(8, layout="logpolar_image")
    radius, _ = array.as_grid(array.polar)
    assert (radius.diff(dim=1) > 0).all()
    torch.testing.assert_close(radius, radius[:1].expand_as(radius))


def test_an_image_seen_by_a_uniform_square_is_the_image():
    image = torch.rand(1, 3, 16, 16)
    retina = fg.Retina(fg.SensorArray(16, layout="uniform_square"), "nearest")
    seen = retina.array.as_grid(retina(image, [[0.5, 0.5]]))
    torch.testing.assert_close(seen[:, 0], image)


def test_other_layouts_and_other_samples_are_refused():
    with pytest.raises(ValueError, match="array must have a layout that is an image"):
        fg.SensorArray(4).as_grid(torch.zeros(4, 3))
    array = fg.SensorArray(4, layout="uniform_square")
    with pytest.raises(ValueError, match=r"\[..., 16 nodes, channels\], got shape \[15, 3\]"):
        array.as_grid(torch.zeros(15, 3))
    with pytest.raises(TypeError, match=r"samples must be a torch.Tensor"):
        array.as_grid([[0.0]] * 16)


def test_rows_are_padded_with_those_of_the_other_end():
    identity = nn.Conv2d(1, 9, 3, padding=1, bias=False)
    with torch.no_grad():
        identity.weight.copy_(torch.eye(9).view(9, 1, 3, 3))
    image = torch.tensor([[0.0, 1, 2], [3, 4, 5]])
    windows = around(identity)(image[None, None])[0]
    padded = torch.tensor([[0.0, 3, 4, 5, 0], [0, 0, 1, 2, 0], [0, 3, 4, 5, 0], [0, 0, 1, 2, 0]])
    expected = padded.unfold(0, 3, 1).unfold(1, 3, 1).permute(2, 3, 0, 1).flatten(0, 1)
    torch.testing.assert_close(windows, expected)


def test_whole_networks_turn_with_the_image_and_keep_their_weights():
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 1, 1)),
        nn.Conv2d(3, 3, 5, padding="same", dilation=2, padding_mode="reflect"),
        nn.AvgPool2d(3, 2, 1),
    ).double()
    turning = around(net)
    assert list(turning.state_dict()) == list(net.state_dict())
    turning.load_state_dict(net.state_dict())
    image = torch.randn(2, 2, 16, 9, dtype=torch.float64)
    whole = turning(image)
    assert whole.shape == net(image).shape
    torch.testing.assert_close(turning(image.roll(4, 2)), whole.roll(2, 2))
    again = around(turning)
    torch.testing.assert_close(again(image), whole)
    assert not torch.allclose(net(image), whole)
    with pytest.raises(ValueError, match="at least 4 rows"):
        turning(image[:, :, :3])


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match="module must be"):
        around("resnet18")
