"""Sampling layouts: where the nodes and the padding around them are put, in degrees and radians."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fovigraph.geometry import LAYOUTS, PlanarManifold

few = settings(deadline=None, max_examples=30)
fovs = st.floats(1, 180)
constants = st.floats(0.05, 100)
rings = st.integers(1, 40)
layouts = pytest.mark.parametrize("name", sorted(LAYOUTS))
discs = pytest.mark.parametrize(
    "name", ["isotropic", "isotropic_fixn", "logpolar_cylinder", "uniform_disc"]
)
EPS = 1e-9


def by_ring(polar):
    """Angles of the nodes of every ring, rings in the order in which they come."""
    found = {}
    for radius, angle in polar.tolist():
        found.setdefault(radius, []).append(angle)
    return found


@layouts
@few
@given(resolution=rings, fov=fovs, cmf_a=constants)
def test_the_count_is_the_number_of_nodes_placed(name, resolution, fov, cmf_a):
    layout = LAYOUTS[name](resolution, fov, cmf_a)
    assert len(layout) == len(layout.coordinates())


@discs
@few
@given(fov=fovs, cmf_a=constants)
def test_a_resolution_of_one_is_one_node_at_the_centre_without_padding(name, fov, cmf_a):
    layout = LAYOUTS[name](1, fov, cmf_a)
    assert layout.coordinates().tolist() == [[0, 0]]
    assert layout.padding().shape == (0, 2)


@discs
def test_nodes_lie_within_the_field_and_padding_beyond_it(name):
    layout = LAYOUTS[name](14, 30.0, 2.0)
    assert layout.coordinates()[:, 0].max() <= 15 + EPS
    assert layout.padding()[:, 0].min() > 15


# ---- isotropic


@few
@given(st.integers(2, 40), fovs, constants)
def test_isotropic_rings_are_evenly_spaced_in_the_logarithm(resolution, fov, cmf_a):
    """w_i evenly spaced from ln a to ln(fov/2 + a); r_i = exp(w_i) − a."""
    start, end = math.log(cmf_a), math.log(fov / 2 + cmf_a)
    radii = list(by_ring(LAYOUTS["isotropic"](resolution, fov, cmf_a).coordinates()))
    expected = [
        math.exp(start + (end - start) * i / (resolution - 1)) - cmf_a for i in range(resolution)
    ]
    assert radii == pytest.approx(expected, rel=EPS, abs=1e-11)


@few
@given(st.integers(2, 40), fovs, constants)
def test_isotropic_spacing_around_a_ring_is_that_between_rings(resolution, fov, cmf_a):
    """As many nodes as make the angular spacing at most the radial one, and not one more."""
    step = math.log((fov / 2 + cmf_a) / cmf_a) / (resolution - 1)
    radii = [cmf_a * math.expm1(step * i) for i in range(resolution + 1)]
    counts = [
        len(a) for a in by_ring(LAYOUTS["isotropic"](resolution, fov, cmf_a).coordinates()).values()
    ]
    assert counts[0] == 1
    for i in range(1, resolution):
        radial = (radii[i + 1] - radii[i - 1]) / 2
        assert 2 * math.pi * radii[i] / counts[i] <= radial * (1 + EPS)
        if counts[i] > 1:
            assert 2 * math.pi * radii[i] / (counts[i] - 1) > radial * (1 - EPS)


@pytest.mark.parametrize("resolution", [5, 13, 26])
def test_isotropic_nodes_divide_their_ring_evenly_from_the_angle_zero(resolution):
    for angles in by_ring(LAYOUTS["isotropic"](resolution, 16.0, 0.5).coordinates()).values():
        expected = [2 * math.pi * j / len(angles) for j in range(len(angles))]
        assert angles == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["isotropic", "logpolar_cylinder"])
def test_rings_are_their_own_mirror_image_in_the_horizontal(name):
    """To double precision, so that distances that tie by symmetry really do."""
    for angles in by_ring(LAYOUTS[name](26, 16.0, 0.5).coordinates()).values():
        mirrored = sorted((2 * math.pi - angle) % (2 * math.pi) for angle in angles)
        assert angles == pytest.approx(mirrored, abs=1e-12)


@layouts
def test_places_do_not_depend_on_the_default_dtype_of_torch(name):
    layout, default = LAYOUTS[name](9, 16.0, 0.5), torch.get_default_dtype()
    places = layout.coordinates(), layout.padding()
    try:
        torch.set_default_dtype(torch.float64)
        again = layout.coordinates(), layout.padding()
    finally:
        torch.set_default_dtype(default)
    assert places[0].equal(again[0])
    assert places[1].equal(again[1])


@few
@given(st.integers(2, 30), fovs, constants)
def test_isotropic_padding_is_rings_at_the_last_gap_for_half_a_field_radius(resolution, fov, cmf_a):
    """SPEC §3, word by word; the margins are for a step that divides exactly."""
    layout = LAYOUTS["isotropic"](resolution, fov, cmf_a)
    radii = [r / (fov / 2) for r in by_ring(layout.coordinates())]
    r_max, delta = radii[-1], radii[-1] - radii[-2]
    expected = []
    radius = r_max + delta
    while radius < r_max + delta + 0.5 - EPS:
        angle, j = 0.0, 0
        while angle < 2 * math.pi - EPS:
            expected.append((radius * fov / 2, angle))
            j += 1
            angle = j * delta
        radius += delta
    got = layout.padding()
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=1e-8, atol=0)


def test_two_isotropic_rings_are_the_centre_and_the_edge():
    (centre, first), (edge, around) = by_ring(
        LAYOUTS["isotropic"](2, 16.0, 60.0).coordinates()
    ).items()
    assert (centre, first) == (0, [0])
    assert edge == pytest.approx(8)
    assert len(around) == 6  # 2π · 8 / ((r₂ − 0) / 2) = 5.89…


def test_a_gap_of_the_whole_radius_gives_one_ring_of_padding_at_every_radian():
    padding = LAYOUTS["isotropic"](2, 16.0, 0.5).padding()
    assert padding[:, 0].tolist() == pytest.approx([16] * 7)
    assert padding[:, 1].tolist() == pytest.approx([0, 1, 2, 3, 4, 5, 6])


# ---- logpolar


@few
@given(st.integers(2, 30), fovs, constants)
def test_logpolar_has_as_many_nodes_on_every_ring_as_rings(resolution, fov, cmf_a):
    layout = LAYOUTS["logpolar_cylinder"](resolution, fov, cmf_a)
    assert len(layout) == resolution**2
    per_ring = by_ring(layout.coordinates())
    assert len(per_ring) == resolution
    for angles in per_ring.values():
        expected = [2 * math.pi * j / resolution for j in range(resolution)]
        assert angles == pytest.approx(expected)


def test_logpolar_rings_are_those_of_the_isotropic_layout():
    mine, isotropic = (
        by_ring(LAYOUTS[n](12, 16.0, 0.5).coordinates()) for n in ("logpolar_cylinder", "isotropic")
    )
    assert list(mine) == list(isotropic)


def test_logpolar_padding_continues_its_spokes_on_the_padding_rings():
    padding, isotropic = (
        LAYOUTS[n](12, 16.0, 0.5).padding() for n in ("logpolar_cylinder", "isotropic")
    )
    assert list(by_ring(padding)) == list(by_ring(isotropic))
    for angles in by_ring(padding).values():
        assert angles == pytest.approx([2 * math.pi * j / 12 for j in range(12)])


def test_logpolar_is_even_on_its_cylinder():
    """All rings equally high, each as far around as the cylinder is high."""
    layout = LAYOUTS["logpolar_cylinder"](9, 16.0, 0.5)
    x, y, z = layout.cortical(layout.coordinates(), PlanarManifold(0.5)).view(9, 9, 3).unbind(-1)
    steps = z.diff(dim=0)
    torch.testing.assert_close(steps, steps[:1, :1].expand_as(steps))
    circumference = 2 * math.pi * torch.hypot(x, y)
    torch.testing.assert_close(circumference, z[-1:, :1].expand_as(circumference))


# ---- uniform


@pytest.mark.parametrize("resolution", [1, 2, 3, 4, 5, 8, 13, 32])
def test_uniform_nodes_are_the_pixel_centres_within_the_field(resolution):
    layout = LAYOUTS["uniform_disc"](resolution, 16.0, 0.5)
    centres = [(2 * i + 1) / resolution - 1 for i in range(resolution)]
    expected = {(round(x, 9), round(y, 9)) for x in centres for y in centres if x * x + y * y <= 1}
    nodes = layout.coordinates()
    x, y = nodes[:, 0] / 8 * nodes[:, 1].cos(), nodes[:, 0] / 8 * nodes[:, 1].sin()
    got = [
        (round(a, 9) + 0.0, round(b, 9) + 0.0) for a, b in zip(x.tolist(), y.tolist(), strict=True)
    ]
    assert len(got) == len(expected)
    assert set(got) == {(a + 0.0, b + 0.0) for a, b in expected}


@pytest.mark.parametrize("resolution", [2, 5, 12])
def test_uniform_padding_continues_the_lattice_for_half_a_radius_past_the_next_pixel(resolution):
    pixel = 2 / resolution
    steps = range(-2 * resolution, 3 * resolution)
    centres = [(2 * i + 1) / resolution - 1 for i in steps]
    radii = sorted(math.hypot(x, y) for x in centres for y in centres)
    expected = [r for r in radii if 1 + EPS < r < 1 + pixel + 0.5 - EPS]
    padding = LAYOUTS["uniform_disc"](resolution, 16.0, 0.5).padding()
    assert (padding[:, 0].sort().values / 8).tolist() == pytest.approx(expected)


def test_uniform_lies_on_a_flat_sheet_at_one_millimetre_a_degree():
    layout = LAYOUTS["uniform_disc"](6, 16.0, 0.5)
    nodes = layout.coordinates()
    x, y, z = layout.cortical(nodes, PlanarManifold(0.5)).unbind(-1)
    torch.testing.assert_close(torch.hypot(x, y), nodes[:, 0])
    assert not z.any()
    assert torch.pdist(torch.stack((x, y), dim=1)).min().item() == pytest.approx(16 / 6)
