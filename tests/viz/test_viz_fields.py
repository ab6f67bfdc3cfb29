"""Fields of whole levels, and effective fields."""

import math

import numpy as np
import pytest
import torch
from matplotlib.collections import EllipseCollection
from torch import nn

import fovigraph as fg
from fovigraph.viz import (
    effective_fields,
    field_ellipses,
    level_features,
    plot_effective_field_sizes,
    plot_field_sizes,
    plot_fields,
)
from fovigraph.viz.fields import _ellipses, _moments


@pytest.fixture(scope="module")
def backbone():
    """A small AlexNet on its pyramid."""
    torch.manual_seed(0)
    steps = fg.KNNAlexNet.steps([2, 1], [9, 9], [0], pool_k=9)
    return fg.KNNAlexNet(fg.GraphPyramid(fg.SensorArray.matched(14), steps), [4, 6]).eval()


def propagate_ones(pyramid, level, x):
    """A network on the pyramid in which every weight is 1, up to a level."""
    for index in range(level):
        size = pyramid.kernel_sizes[index]
        layer = fg.nn.KNNPool("sum")
        if size is not None:
            layer = fg.nn.KNNConv(1, 1, size, bias=False).double()
            nn.init.ones_(layer.weight)
        x = layer(x, pyramid.graphs[index])
    return x


@pytest.mark.parametrize("level", [0, 1, 2])
def test_receptive_fields_are_what_ones_reach(pyramid, level):
    retina = len(pyramid.levels[0])
    ones = torch.eye(retina, dtype=torch.float64)[..., None]  # an image a node, lit there alone
    reached = propagate_ones(pyramid, level, ones)[..., 0].T  # [units, retina]
    for unit, expected in enumerate(reached):
        field = pyramid.receptive_field(level, unit)
        assert torch.equal(field.nodes, expected.nonzero().squeeze(1))
        assert torch.equal(field.paths, expected[field.nodes])


@pytest.mark.parametrize("level", [1, "pool1"])
def test_ellipses_have_the_moments_of_the_fields(pyramid, level):
    retina = pyramid.levels[0]
    ellipses = field_ellipses(pyramid, level)
    for unit in (0, len(ellipses.diameter) // 2, -1):
        field = pyramid.receptive_field(level, unit % len(ellipses.diameter))
        places = (retina.cartesian * (retina.fov / 2)).numpy()[field.nodes]
        spread = np.cov(places.T, aweights=field.paths.numpy(), ddof=0)
        center = np.average(places, axis=0, weights=field.paths.numpy())
        np.testing.assert_allclose(ellipses.center[unit], center, atol=1e-9)
        expected = 4 * np.sqrt(np.linalg.eigvalsh(spread)[::-1])
        np.testing.assert_allclose(ellipses.axes[unit], expected, atol=1e-6)
        longer = np.array([math.cos(ellipses.angle[unit]), math.sin(ellipses.angle[unit])])
        np.testing.assert_allclose(longer @ spread @ longer, (expected[0] / 4) ** 2, rtol=1e-6)


def test_an_even_disc_is_its_own_ellipse():
    lattice = fg.SensorArray(101, fov=10.0, layout="uniform_disc")
    ellipse = _ellipses(_moments(lattice)[lattice.eccentricity <= 3].sum(0, keepdim=True))
    np.testing.assert_allclose(ellipse.diameter, 6, rtol=0.02)
    np.testing.assert_allclose(ellipse.center, 0, atol=1e-9)


@pytest.mark.parametrize("level", ["retina", "conv1", "pool1", "conv2"])
def test_effective_fields_are_autograds(backbone, level):
    samples = torch.randn(2, len(backbone.pyramid.levels[0]), 3)
    fields = effective_fields(backbone, level, [0, 7], samples=samples)
    for unit, field in zip((0, 7), fields, strict=True):
        expected = 0
        for sample in samples:
            x = sample[None].clone().requires_grad_()
            strength = level_features(backbone, x)[level][0, unit].sum()
            (gradient,) = torch.autograd.grad(strength, x)
            expected = expected + gradient[0].norm(dim=-1) / len(samples)
        torch.testing.assert_close(field, expected)
        reached = backbone.pyramid.receptive_field(level, unit).nodes
        assert set(field.nonzero().squeeze(1).tolist()) <= set(reached.tolist())
    assert fields.shape == (2, len(backbone.pyramid.levels[0]))


def test_effective_fields_leave_the_network_as_it_is(backbone):
    before = [weight.requires_grad for weight in backbone.parameters()]
    with torch.no_grad():
        effective_fields(backbone, 1, [0])
    assert [weight.requires_grad for weight in backbone.parameters()] == before
    assert all(weight.grad is None for weight in backbone.parameters())


def test_features_of_levels_are_what_the_next_step_takes(backbone):
    samples = torch.rand(2, len(backbone.pyramid.levels[0]), 3)
    features = level_features(backbone, samples)
    assert tuple(features) == backbone.pyramid.names
    levels = list(features.values())
    assert [f.shape[1] for f in levels] == [len(a) for a in backbone.pyramid.levels]
    assert levels[0] is samples
    pooled = fg.nn.KNNPool("max")(levels[1], backbone.pyramid.graphs[1])
    torch.testing.assert_close(levels[2], pooled)
    torch.testing.assert_close(levels[-1], backbone(samples))


def test_a_level_is_drawn_in_degrees_at_half_the_size(pyramid):
    ax = plot_fields(pyramid, "conv1", most=10).axes[0]
    (drawn,) = (c for c in ax.collections if isinstance(c, EllipseCollection))
    assert len(drawn.get_offsets()) == 10
    fields = field_ellipses(pyramid, "conv1")
    np.testing.assert_allclose(drawn.get_widths()[0], fields.axes[0, 0] / 2)
    assert "(degrees)" in ax.get_xlabel()
    assert f"10 of {len(pyramid.levels[1])} units" in ax.get_title()


@pytest.mark.parametrize("effective", [False, True])
def test_sizes_have_a_line_a_level(backbone, effective):
    if effective:
        figure = plot_effective_field_sizes(backbone, levels=["conv1", "pool1"], units=8)
    else:
        figure = plot_field_sizes(backbone.pyramid, levels=["conv1", "pool1"])
    (ax,) = figure.axes
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert [text.split(":")[0] for text in texts] == ["conv1", "pool1"]
    assert "(degrees)" in ax.get_ylabel()


def test_the_line_is_fitted_to_fields_within_the_field_of_view(backbone):
    (line,) = plot_field_sizes(backbone.pyramid, levels=["conv1"]).axes[0].lines
    fields = field_ellipses(backbone.pyramid, "conv1")
    whole = fields.eccentricity + fields.diameter / 2 <= 8
    slope, start = np.polyfit(fields.eccentricity[whole], fields.diameter[whole], 1)
    np.testing.assert_allclose(line.get_ydata(), start + slope * line.get_xdata())


def test_figures_are_drawn_where_they_are_told(pyramid):
    ax = plot_fields(pyramid, 1).axes[0]
    assert plot_field_sizes(pyramid, ax=ax) is ax.figure


def test_bad_arguments(pyramid, backbone):
    with pytest.raises(ValueError, match="level must lie above the retina, one of conv1, pool1"):
        plot_fields(pyramid, 0)
    with pytest.raises(ValueError, match="level must be from 0 to 2, got 3"):
        plot_field_sizes(pyramid, levels=[3])
    with pytest.raises(ValueError, match=r"units must be from 0 to \d+ at level 'conv1'"):
        effective_fields(backbone, 1, [-1])
    with pytest.raises(ValueError, match="units must be at least 1"):
        plot_effective_field_sizes(backbone, units=0)
