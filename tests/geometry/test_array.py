"""The sensor array: figures that must come out, matching, striding, coordinates, bad input."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fovigraph import SensorArray
from fovigraph.geometry import LAYOUTS, MANIFOLDS

few = settings(deadline=None, max_examples=25)
fovs = st.floats(1, 180)
constants = st.floats(0.05, 100)
sides = st.integers(1, 40)
layouts = pytest.mark.parametrize("layout", sorted(LAYOUTS))


# ---- resource matching


@pytest.mark.parametrize(
    ("side", "nodes", "rings"),
    [(64, 4085, 53), (32, 964, 26), (16, 230, 13), (8, 60, 7), (4, 16, 4), (1, 1, 1)],
)
def test_matched_nodes_and_rings_at_16_degrees(side, nodes, rings):
    array = SensorArray.matched(side, fov=16.0, cmf_a=0.5)
    assert len(array) == len(array.cartesian) == nodes
    assert array.resolution == rings


@layouts
@few
@given(side=sides, fov=fovs, cmf_a=constants)
def test_matched_is_the_largest_array_with_no_more_nodes_than_pixels(layout, side, fov, cmf_a):
    array = SensorArray.matched(side, fov=fov, cmf_a=cmf_a, layout=layout)
    assert len(array) <= side**2
    assert len(array.with_resolution(array.resolution + 1)) > side**2


@layouts
def test_node_counts_rise_with_the_resolution(layout):
    """So the largest array that fits is found by halving."""
    counts = [len(SensorArray(r, layout=layout)) for r in range(1, 150)]
    assert all(fewer < more for fewer, more in pairwise(counts))


@layouts
@few
@given(side=sides, stride=st.integers(1, 8), fov=fovs, cmf_a=constants)
def test_striding_a_matched_array_matches_it_to_a_smaller_side(layout, side, stride, fov, cmf_a):
    options = {"fov": fov, "cmf_a": cmf_a, "layout": layout}
    stride = min(side, stride)
    strided = SensorArray.matched(side, **options).strided(stride)
    assert strided == SensorArray.matched(side // stride, **options)
    assert strided.side == side // stride


def test_striding_any_other_array_divides_its_resolution():
    array = SensorArray(13, fov=30.0, cmf_a=2.0, field_geometry="legacy")
    assert array.strided(3) == SensorArray(4, fov=30.0, cmf_a=2.0, field_geometry="legacy")


@pytest.mark.parametrize("array", [SensorArray.matched(16), SensorArray(9)], ids=["matched", "not"])
def test_a_stride_of_one_is_the_array_itself(array):
    assert array.strided(1) is array


def test_strides_follow_one_another():
    retina = SensorArray.matched(64)
    assert [len(retina.strided(2).strided(2)), len(retina.strided(4))] == [230, 230]


def test_other_resolutions_and_sides_keep_field_magnification_layout_and_surface():
    array = SensorArray(9, fov=30.0, cmf_a=2.0, layout="logpolar_cylinder", field_geometry="legacy")
    for other in (array.with_resolution(5), array.with_side(7)):
        assert (other.fov, other.cmf_a) == (30, 2)
        assert (other.layout, other.field_geometry) == ("logpolar_cylinder", "legacy")


# ---- coordinates


@few
@given(resolution=st.integers(2, 40), fov=fovs, cmf_a=constants)
def test_the_edge_of_the_field_is_at_radius_one(resolution, fov, cmf_a):
    array = SensorArray(resolution, fov=fov, cmf_a=cmf_a)
    assert array.cartesian.norm(dim=1).max().item() == pytest.approx(1, rel=1e-12)
    assert array.eccentricity.max().item() == pytest.approx(fov / 2, rel=1e-12)


@few
@given(resolution=st.integers(1, 40), fov=fovs, cmf_a=constants)
def test_nodes_are_ordered_ring_by_ring_then_by_angle(resolution, fov, cmf_a):
    polar = SensorArray(resolution, fov=fov, cmf_a=cmf_a).polar.tolist()
    assert polar == sorted(polar)


@layouts
def test_one_ring_is_one_point_at_the_origin(layout):
    array = SensorArray(1, layout=layout)
    assert len(array) == 1
    assert array.cartesian.tolist() == [[0, 0]]
    assert len(array.padding_cartesian) == 0


def test_two_rings_are_the_centre_and_points_around_the_edge():
    array = SensorArray(2, fov=16.0, cmf_a=0.5)
    radii = array.cartesian.norm(dim=1)
    assert radii[0] == 0
    assert len(array) > 1
    torch.testing.assert_close(radii[1:], torch.ones_like(radii[1:]))


def test_x_points_right_and_y_up():
    array = SensorArray.matched(16)
    torch.testing.assert_close(
        array.cartesian[:, 0] * 8, array.eccentricity * array.polar_angle.cos()
    )
    torch.testing.assert_close(
        array.cartesian[:, 1] * 8, array.eccentricity * array.polar_angle.sin()
    )


@layouts
def test_polar_and_cartesian_say_the_same_of_nodes_and_padding(layout):
    array = SensorArray(8, fov=30.0, cmf_a=2.0, layout=layout)
    for polar, cartesian in (
        (array.polar, array.cartesian),
        (array.padding_polar, array.padding_cartesian),
    ):
        torch.testing.assert_close(torch.polar(polar[:, 0] / 15, polar[:, 1]).real, cartesian[:, 0])
        torch.testing.assert_close(torch.polar(polar[:, 0] / 15, polar[:, 1]).imag, cartesian[:, 1])


@pytest.mark.parametrize("field_geometry", sorted(MANIFOLDS))
def test_nodes_and_padding_lie_on_the_named_surface(field_geometry):
    array = SensorArray(8, fov=30.0, cmf_a=2.0, field_geometry=field_geometry)
    surface = MANIFOLDS[field_geometry](2.0)
    torch.testing.assert_close(array.cortical, surface.to_cortical(array.polar), atol=1e-9, rtol=0)
    padding = surface.to_cortical(array.padding_polar)
    torch.testing.assert_close(array.padding_cortical, padding, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("fov", "cmf_a", "resolution"),
    [(16.0, 0.5, 40), (65.0, 0.15, 40), (48.0, 8.0, 20), (16.0, 0.05, 30), (100.0, 0.5, 40)],
)
def test_neighbours_are_equally_far_on_the_planar_surface_all_over_the_field(
    fov, cmf_a, resolution
):
    """That is the point of it: beyond the innermost rings, where a few nodes close a circle,
    the nearest neighbour is one radial step away to 5 %, while the visual spacing varies tenfold.
    """
    array = SensorArray(resolution, fov=fov, cmf_a=cmf_a)
    outer = array.eccentricity > array.eccentricity.unique()[4]
    step = 10 * math.log1p(fov / 2 / cmf_a) / (resolution - 1)
    apart = torch.cdist(array.cortical, array.cortical).fill_diagonal_(math.inf).min(1).values
    assert (apart[outer] / step).min() > 0.95
    assert (apart[outer] / step).max() < 1.005


def test_the_visual_spacing_of_a_foveated_array_is_far_from_constant():
    array = SensorArray(40, fov=16.0, cmf_a=0.5)
    apart = torch.cdist(array.cartesian, array.cartesian).fill_diagonal_(math.inf).min(1).values
    assert apart.max() / apart.min() > 10


def test_coordinates_are_double_precision_on_the_cpu_and_made_once():
    array = SensorArray(5)
    for name in ("polar", "cartesian", "cortical"):
        for of in ("", "padding_"):
            points = getattr(array, of + name)
            assert points.dtype == torch.float64
            assert points.device.type == "cpu"
            assert points.shape[1] == (3 if name == "cortical" else 2)
            assert getattr(array, of + name) is points


@layouts
def test_an_array_of_the_same_make_has_the_same_coordinates_to_the_last_bit(layout):
    one, two = (SensorArray(9, fov=30.0, cmf_a=2.0, layout=layout) for _ in range(2))
    assert one.polar.equal(two.polar)
    if layout != "uniform_square":
        assert one.cortical.equal(two.cortical)
    assert one.padding_cartesian.equal(two.padding_cartesian)


# ---- being a value


def test_arrays_of_the_same_make_are_equal_however_they_were_made():
    one, two = SensorArray.matched(16), SensorArray.matched(64).strided(2).strided(2)
    assert one == two
    assert hash(one) == hash(two)
    assert len({one, two}) == 1


def test_arrays_that_stride_differently_are_not_equal():
    matched, plain = SensorArray.matched(64), SensorArray(53)
    assert len(matched) == len(plain)
    assert len(matched.strided(8)) != len(plain.strided(8))
    assert matched != plain


@pytest.mark.parametrize(
    "other",
    [
        SensorArray(8),
        SensorArray(9, fov=17.0),
        SensorArray(9, cmf_a=0.6),
        SensorArray(9, layout="logpolar_cylinder"),
        SensorArray(9, field_geometry="legacy"),
        "SensorArray(9)",
    ],
    ids=str,
)
def test_arrays_that_differ_in_anything_are_not_equal(other):
    assert SensorArray(9) != other


def test_prints_itself():
    assert repr(SensorArray.matched(64)) == (
        "SensorArray(4085 nodes, side=64, resolution=53, fov=16, cmf_a=0.5, layout='isotropic')"
    )
    assert repr(SensorArray(1, field_geometry="legacy")) == (
        "SensorArray(1 nodes, resolution=1, fov=16, cmf_a=0.5, layout='isotropic', 'legacy')"
    )


def test_an_array_is_described_without_placing_its_nodes():
    """Large arrays are counted and compared at once; coordinates come when asked for."""
    array = SensorArray.matched(4096)
    assert 4080**2 < len(array) <= 4096**2
    assert "cortical" not in vars(array)


# ---- bad input


@pytest.mark.parametrize("make", [SensorArray, SensorArray.matched], ids=["plain", "matched"])
@pytest.mark.parametrize("name", ["fov", "cmf_a"])
@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, -math.inf])
def test_fov_and_cmf_a_must_be_finite_and_positive(make, name, value):
    with pytest.raises(ValueError, match=f"{name} must be finite and above 0, got {value}"):
        make(4, **{name: value})


@pytest.mark.parametrize("name", ["fov", "cmf_a"])
@pytest.mark.parametrize("value", ["16", None, True, 1j])
def test_fov_and_cmf_a_must_be_numbers(name, value):
    with pytest.raises(TypeError, match=f"{name} must be a finite number"):
        SensorArray(4, **{name: value})


@pytest.mark.parametrize("make", [SensorArray, SensorArray.matched], ids=["plain", "matched"])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("fov", 400, "fov must be from 0.001 to 360, got 400"),
        ("fov", 1e308, r"fov must be from 0.001 to 360, got 1e\+308"),
        ("fov", 5e-324, "fov must be from 0.001 to 360, got 5e-324"),
        ("fov", 10**400, "fov must be finite and above 0, got"),
        ("cmf_a", 1e-300, r"cmf_a must be from 1e-06 to 1e\+06, got 1e-300"),
        ("cmf_a", 1e7, r"cmf_a must be from 1e-06 to 1e\+06, got 10000000"),
    ],
    ids=["wide", "huge", "tiny", "no float", "sharp", "flat"],
)
def test_fov_and_cmf_a_have_limits_that_are_said(make, name, value, message):
    with pytest.raises(ValueError, match=message):
        make(4, **{name: value})


@layouts
@pytest.mark.parametrize("fov", [1e-3, 16.0, 360.0])
@pytest.mark.parametrize("cmf_a", [1e-6, 1e-3, 0.5, 1e3, 1e6])
def test_within_the_limits_nodes_and_padding_are_finite_and_apart(layout, fov, cmf_a):
    array = SensorArray(30, fov=fov, cmf_a=cmf_a, layout=layout)
    # Of what has no cortex, the visual field counts.
    spaces = ("polar", "cartesian", "cortical")[: 2 if layout == "uniform_square" else 3]
    for name in spaces:
        assert getattr(array, name).isfinite().all()
        assert getattr(array, f"padding_{name}").isfinite().all()
    places = getattr(array, spaces[-1])
    places = places / places.norm(dim=1).max()
    apart = torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")
    assert apart.fill_diagonal_(math.inf).min() > 1e-6


@few
@given(
    resolution=st.integers(2, 30),
    fov=st.floats(1e-3, 360),
    cmf_a=st.floats(-6, 6).map(lambda power: 10**power),
)
def test_within_the_limits_the_cortex_leads_back_to_the_visual_field(resolution, fov, cmf_a):
    array = SensorArray(resolution, fov=fov, cmf_a=cmf_a)
    back = array.manifold.to_polar(array.cortical)
    torch.testing.assert_close(back[:, 0], array.eccentricity, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("value", [10**9, 4097])
def test_sides_that_no_array_has_are_refused_at_once(value):
    with pytest.raises(ValueError, match=f"side must be at most 4096, got {value}"):
        SensorArray.matched(value)
    with pytest.raises(ValueError, match=f"side must be at most 4096, got {value}"):
        SensorArray(3).with_side(value)


@layouts
def test_resolutions_of_more_nodes_than_there_may_be_are_refused_at_once(layout):
    most = SensorArray.matched(4096, layout=layout).resolution
    message = f"resolution must give at most 16,777,216 nodes, got {most + 1}, which gives"
    with pytest.raises(ValueError, match=message):
        SensorArray(most + 1, layout=layout)
    with pytest.raises(ValueError, match="resolution must be at most 8192, got 1000000000"):
        SensorArray(10**9, layout=layout)


@layouts
@pytest.mark.parametrize(("fov", "cmf_a"), [(1e-3, 1e6), (360.0, 1e-6), (16.0, 0.5)])
def test_the_limit_of_the_resolution_is_beyond_that_of_the_nodes(layout, fov, cmf_a):
    """And no array of half a side's resolution is beyond it."""
    assert len(LAYOUTS[layout](8192, fov, cmf_a)) > 4096**2
    assert len(LAYOUTS[layout](2048, fov, cmf_a)) <= 4096**2


@pytest.mark.parametrize("value", [0, -3])
def test_resolution_side_and_stride_must_be_at_least_one(value):
    for call, name in (
        (SensorArray, "resolution"),
        (SensorArray.matched, "side"),
        (SensorArray(4).strided, "stride"),
    ):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got {value}"):
            call(value)


@pytest.mark.parametrize("value", [2.0, "2", None, True, math.nan])
def test_resolution_and_side_must_be_whole_numbers(value):
    for call, name in ((SensorArray, "resolution"), (SensorArray.matched, "side")):
        with pytest.raises(TypeError, match=f"{name} must be a whole number"):
            call(value)


@pytest.mark.parametrize("value", ["2", None, True])
def test_a_stride_must_be_a_number(value):
    with pytest.raises(TypeError, match="stride must be a finite number"):
        SensorArray(4).strided(value)
    with pytest.raises(ValueError, match="stride must be finite, got nan"):
        SensorArray(4).strided(math.nan)


@pytest.mark.parametrize(("stride", "side"), [(1.5, 42), (1.6, 40), (2.5, 25), (63.9, 1)])
def test_a_stride_may_be_a_fraction(stride, side):
    """Of the side of a matched array, or else of the resolution: rounded down."""
    assert SensorArray.matched(64).strided(stride) == SensorArray.matched(side)
    assert SensorArray(64).strided(stride) == SensorArray(side)


@pytest.mark.parametrize(
    ("side", "rings", "nodes"),
    [(64, 54, 4240), (32, 27, 1041), (16, 14, 268), (8, 8, 83), (4, 4, 16)],
)
def test_matched_to_at_least_as_many_so_are_its_strided_arrays(side, rings, nodes):
    array = SensorArray.matched(64, at_least=True).strided(64 // side)
    assert (array.resolution, len(array), array.side) == (rings, nodes, side)
    assert array != SensorArray.matched(side)


def test_a_stride_that_leaves_no_nodes_is_refused():
    assert len(SensorArray.matched(16).strided(16)) == 1
    with pytest.raises(ValueError, match=r"stride must leave .* at most 16 .*side 16, got 17"):
        SensorArray.matched(16).strided(17)
    with pytest.raises(ValueError, match=r"at most 9 .*resolution 9, got 10"):
        SensorArray(9).strided(10)


@pytest.mark.parametrize("make", [SensorArray, SensorArray.matched], ids=["plain", "matched"])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("layout", "isotropc", r"'isotropic', 'isotropic_fixn', .* mean 'isotropic'\?"),
        ("layout", "hexagons", r".*'uniform_square', 'warped_cartesian', got 'hexagons'$"),
        ("field_geometry", "Planar", r"'legacy', 'planar', .* mean 'planar'\?"),
        ("field_geometry", "spherical", r"'legacy', 'planar', got 'spherical'$"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones_and_the_nearest(make, name, value, message):
    with pytest.raises(ValueError, match=f"{name} must be one of {message}"):
        make(4, **{name: value})


@pytest.mark.parametrize("make", [SensorArray, SensorArray.matched], ids=["plain", "matched"])
@pytest.mark.parametrize("name", ["layout", "field_geometry"])
@pytest.mark.parametrize("value", [None, 3, ["planar"], torch.ones(2), b"planar"], ids=str)
def test_names_must_be_strings(make, name, value):
    with pytest.raises(TypeError, match=f"{name} must be one of .*, got"):
        make(4, **{name: value})


def test_degrees_are_places_in_the_visual_field():
    array = SensorArray.matched(16, fov=30.0)
    assert array.degrees.equal(array.cartesian * 15)
    torch.testing.assert_close(array.degrees.norm(dim=1), array.eccentricity)
