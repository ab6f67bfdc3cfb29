"""The inverse retina: node features back on pixels."""

import pytest
import torch

import fovigraph as fg
from fovigraph.sensing import InverseRetina


@pytest.fixture(scope="module")
def retina():
    return fg.Retina(fg.SensorArray.matched(24), "bilinear")


def test_a_constant_is_constant_inside_the_field_and_zero_outside(retina):
    inverse = InverseRetina(retina, (20, 30))
    image = inverse(torch.full((2, len(retina.array), 3), 0.7))
    assert image.shape == (2, 3, 20, 30)
    seen = image[..., inverse.inside]
    torch.testing.assert_close(seen, torch.full_like(seen, 0.7))
    assert not image[..., ~inverse.inside].any()


def test_inside_is_the_field_of_view_around_the_fixation(retina):
    inverse = InverseRetina(retina, (40, 60), fixation=(0.25, 0.75), fixation_size=(20, 30))
    row, column = torch.meshgrid(torch.arange(40) + 0.5, torch.arange(60) + 0.5, indexing="ij")
    expected = ((row - 10) / 10) ** 2 + ((column - 45) / 15) ** 2 <= 1
    assert inverse.inside.equal(expected)


def test_the_nearest_node_of_every_pixel_by_brute_force(retina):
    size, fixation, view = (18, 22), (0.4, 0.6), 17.0
    inverse = InverseRetina(retina, size, fixation, view, k=1)
    nodes = torch.arange(len(retina.array), dtype=torch.float32)[:, None]
    image = inverse(nodes)[0]
    places = retina.pixels([list(fixation)], size, view)[0]  # where nodes fall, in pixels
    row, column = torch.meshgrid(torch.arange(18) + 0.5, torch.arange(22) + 0.5, indexing="ij")
    pixels = torch.stack((row, column), dim=-1)[inverse.inside]
    distance = torch.cdist(pixels, places, compute_mode="donot_use_mm_for_euclid_dist")
    chosen = distance.gather(1, image[inverse.inside].long()[:, None])[:, 0]
    torch.testing.assert_close(chosen, distance.amin(dim=1), rtol=1e-4, atol=1e-4)


def test_seeing_and_laying_out_again_gives_a_smooth_image_back_best_at_gaze(retina):
    size = (48, 48)
    row, column = torch.meshgrid(*[torch.linspace(0, 3, 48)] * 2, indexing="ij")
    image = torch.stack((row.sin(), column.cos(), (row + column).sin())) / 2 + 0.5
    fixation = (0.4, 0.55)
    inverse = InverseRetina(retina, size, fixation, 38.0)
    error = (inverse(retina(image[None], [fixation], 38.0)[0, 0]) - image).abs().amax(dim=0)
    assert error[inverse.inside].mean() < 0.05
    near = (torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")[0] - 19).abs() < 4
    near &= (torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")[1] - 26).abs() < 4
    assert error[near].max() < 0.02


def test_up_is_up_and_right_is_right(retina):
    inverse = InverseRetina(retina, (20, 20))
    x, y = inverse(retina.array.cartesian.float())
    assert (x[10].diff()[5:14] > 0).all()
    assert (y[:, 10].diff()[5:14] < 0).all()


def test_it_is_the_inverse_square_mean_of_the_k_nearest(retina):
    inverse = InverseRetina(retina, (16, 16), k=4)
    x = torch.randn(len(retina.array), 2)
    pixel = 5 * 16 + 9
    place = torch.tensor([(9.5 - 8) / 8, (8 - 5.5) / 8], dtype=torch.float64)
    distance, node = (retina.array.cartesian - place).norm(dim=1).sort()
    weight = (distance[:4] ** -2 / (distance[:4] ** -2).sum()).float()
    expected = (weight[:, None] * x[node[:4]]).sum(0)
    torch.testing.assert_close(inverse(x).flatten(1)[:, pixel], expected)


def test_it_has_the_right_gradient():
    retina = fg.Retina(fg.SensorArray.matched(4))
    inverse = InverseRetina(retina, (5, 6)).double()
    x = torch.randn(2, len(retina.array), 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(inverse, x)


def test_any_leading_dimensions_and_no_state(retina):
    inverse = InverseRetina(retina, (9, 9))
    x = torch.rand(2, 3, len(retina.array), 4)
    assert inverse(x).shape == (2, 3, 4, 9, 9)
    assert inverse(x)[1, 2].equal(inverse(x[1, 2]))
    assert inverse.state_dict() == {}
    assert "nodes → 9 × 9 pixels" in repr(inverse)


def test_bad_arguments_are_refused(retina):
    nodes = len(retina.array)
    with pytest.raises(ValueError, match=f"x must be .*{nodes} nodes, channels.*, got shape"):
        InverseRetina(retina, (9, 9))(torch.rand(2, nodes - 1, 3))
    with pytest.raises(ValueError, match=f"k must be at most {nodes}, .* got {nodes + 1}"):
        InverseRetina(retina, (9, 9), k=nodes + 1)
    with pytest.raises(ValueError, match="image_size must be at least 1, got 0"):
        InverseRetina(retina, (9, 0))
    with pytest.raises(ValueError, match="fixations must be fractions"):
        InverseRetina(retina, (9, 9), fixation=(5, 5))
    with pytest.raises(ValueError, match="fixation_size must be finite and above 0"):
        InverseRetina(retina, (9, 9), fixation_size=0)
    for image_size, error in ((9, TypeError), ((9, 9.0), TypeError), ((9, 9, 9), ValueError)):
        with pytest.raises(error, match="image_size must be"):
            InverseRetina(retina, image_size)
    for fixation, error in ((None, TypeError), ("a", TypeError), ((0.5,), ValueError)):
        with pytest.raises(error, match="fixation must be"):
            InverseRetina(retina, (9, 9), fixation=fixation)
    with pytest.raises(TypeError, match="retina must be a Retina, got 3"):
        InverseRetina(3, (9, 9))
    for x in ([1.0], None, torch.ones(nodes, 3, dtype=torch.int64)):
        with pytest.raises(TypeError, match="x must be a floating-point tensor, got"):
            InverseRetina(retina, (9, 9))(x)


def test_its_geometry_is_no_buffer_and_stays_as_it_is(retina):
    with torch.inference_mode(), torch.device("meta"):
        inverse = InverseRetina(retina, (20, 30))
    assert not list(inverse.buffers())
    expected = InverseRetina(retina, (20, 30))
    x = torch.rand(2, len(retina.array), 3, requires_grad=True)
    assert inverse.half().to("meta").to_empty(device="cpu")(x).equal(expected(x))
    inverse(x).sum().backward()
