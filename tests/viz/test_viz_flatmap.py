"""The flattened cortex."""

import math

import numpy as np
import pytest
import torch

import fovigraph as fg
from fovigraph.geometry.magnification import CORTICAL_SCALE
from fovigraph.viz import flat_map
from fovigraph.viz.field import Field
from fovigraph.viz.flatmap import MAPS, flat_circle, flat_outlines, map_labels


def enclosed_area(curve):
    x, y = curve.unbind(-1)
    return float((x * y.roll(-1) - x.roll(-1) * y).sum().abs() / 2)


def length(curve):
    return float(curve.diff(dim=0).norm(dim=1).sum())


@pytest.fixture(params=["planar", "legacy"])
def surface(request):
    return fg.SensorArray.matched(32, fov=30.0, cmf_a=0.7, field_geometry=request.param)


def test_point_of_gaze_is_the_origin(surface):
    assert torch.equal(flat_map(surface)[0], torch.zeros(2, dtype=torch.float64))


def test_distance_from_the_point_of_gaze_is_that_along_the_surface(surface):
    along = CORTICAL_SCALE * torch.log1p(surface.eccentricity / 0.7)
    torch.testing.assert_close(flat_map(surface).norm(dim=1), along)


@pytest.mark.parametrize("eccentricity", [0.1, 2.0, 15.0])
def test_arcs_of_equal_eccentricity_keep_their_length(surface, eccentricity):
    rho, _ = surface.manifold.profile(torch.tensor([eccentricity], dtype=torch.float64))
    for half in flat_circle(surface, eccentricity):
        assert length(half) == pytest.approx(math.pi * float(rho), rel=1e-3)


def test_areas_are_those_of_the_surface(surface):
    radius = torch.linspace(0, 15, 20_001, dtype=torch.float64)
    rho, _ = surface.manifold.profile(radius)
    density = fg.geometry.magnification(radius, surface.cmf_a) * rho * math.pi
    half = float(torch.trapezoid(density, radius))
    for outline in flat_outlines(surface, Field(surface, 15.0)):
        assert enclosed_area(outline) == pytest.approx(half, rel=1e-3)


def test_sides_are_as_they_are_seen(array):
    x, y = flat_map(array).unbind(-1)
    seen_x, seen_y = array.cartesian.unbind(-1)
    off = seen_x.abs() > 1e-6
    assert torch.equal(x[off].sign(), seen_x[off].sign())
    up = seen_y.abs() > 1e-6
    assert torch.equal(y[up].sign(), seen_y[up].sign())


def test_upright_and_hanging_are_on_one_side():
    polar = torch.tensor([[1.0, math.pi / 2], [1.0, 3 * math.pi / 2]])
    assert (flat_map(fg.SensorArray.matched(14), polar)[:, 0] > 0).all()


def test_samples_are_nearly_as_far_apart_as_on_the_surface():
    array = fg.SensorArray.matched(32)
    flat = torch.cdist(flat_map(array), flat_map(array)).fill_diagonal_(math.inf).amin(1)
    solid = torch.cdist(array.cortical, array.cortical).fill_diagonal_(math.inf).amin(1)
    assert flat.median() == pytest.approx(float(solid.median()), rel=0.05)
    assert (flat / solid).quantile(0.9) < 1.25
    assert (flat / solid).quantile(0.1) > 0.75


def test_uniform_sheet_stays_as_it_is():
    array = fg.SensorArray(8, layout="uniform_disc")
    torch.testing.assert_close(flat_map(array), array.cortical[:, :2])


def test_logpolar_cylinder_becomes_two_rectangles():
    array = fg.SensorArray(12, layout="logpolar_cylinder")
    flat = flat_map(array)
    torch.testing.assert_close(flat[:, 0].abs(), array.cortical[:, 2])
    quarter = CORTICAL_SCALE * math.log1p(array.fov / 2 / array.cmf_a) / 4
    assert float(flat[:, 1].abs().max()) == pytest.approx(quarter)


EYES = [
    {},
    {"extent": "square"},
    {"layout": "isotropic_fixn"},
    {"layout": "logpolar_image"},
    {"layout": "logpolar_image", "extent": "square"},
    {"layout": "logpolar_cylinder"},
    {"layout": "warped_cartesian"},
    {"layout": "warped_cartesian", "extent": "wang"},
    {"layout": "warped_cartesian", "extent": "square", "norm": math.inf},
    {"layout": "uniform_disc"},
    {"layout": "uniform_square"},
]


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("eye", EYES, ids=str)
def test_nodes_lie_within_the_outlines(eye, kind):
    from matplotlib.path import Path

    array = fg.SensorArray(9, **eye)
    valid = torch.ones(len(array), dtype=torch.bool) if array.mask is None else array.mask
    outlines = [Path(c.numpy()) for c in flat_outlines(array, Field(array), kind)]
    points = flat_map(array, kind=kind)[valid & (array.eccentricity > 0)].numpy()
    # A curve's sense decides which way a radius widens it; this is for its corners.
    slack = 2e-3 * np.ptp(points)
    inside = [o.contains_points(points, radius=r) for o in outlines for r in (-slack, slack)]
    assert np.any(inside, axis=0).all()


FIGURES = {
    "v1like": [
        (-3.2380018, 0),
        (-2.8332572, 0),
        (2.9588113, -0.3329383),
        (-0.4095979, 0.3948355),
    ],
    "schwartz": [
        (0.0404788, 0),
        (0.4452235, 0),
        (-0.3196695, 0.3329383),
        (2.8688829, -0.3948355),
    ],
}


@pytest.mark.parametrize("kind", FIGURES)
def test_figures_of_the_maps_of_two_halves(kind):
    places = flat_map(fg.SensorArray(8), kind=kind)[[0, 1, 3, 82]]
    expected = torch.tensor(FIGURES[kind], dtype=torch.float64)
    torch.testing.assert_close(places, expected, atol=1e-6, rtol=0)


def test_figures_of_the_disc():
    places = flat_map(fg.SensorArray(8), kind="warp")[[1, 82]]
    expected = torch.tensor([(1 / 7, 0), (0.9135455, -0.4067365)], dtype=torch.float64)
    torch.testing.assert_close(places, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", MAPS)
def test_other_layouts_have_one_map(kind):
    logpolar = fg.SensorArray(8, layout="logpolar_image")
    torch.testing.assert_close(flat_map(logpolar, kind=kind), logpolar.cortical)
    square = fg.SensorArray(8, layout="uniform_square")
    torch.testing.assert_close(flat_map(square, kind=kind), square.degrees)


def test_only_what_is_in_millimetres_says_so():
    def labels(kind="cortical", **options):
        return " ".join(map_labels(fg.SensorArray(5, **options), kind))

    assert labels().count("(mm)") == 2
    assert labels(layout="logpolar_cylinder").count("(mm)") == 2
    for kind in ("v1like", "schwartz", "warp"):
        assert "mm" not in labels(kind)
    assert "turns" in labels(layout="logpolar_image")
    assert labels(layout="warped_cartesian").count("(no unit)") == 2
    assert labels(layout="uniform_square").count("(degrees)") == 2


def test_unknown_map(array):
    with pytest.raises(ValueError, match="kind must be one of 'cortical', 'schwartz', 'v1like', "):
        flat_map(array, kind="v1")
