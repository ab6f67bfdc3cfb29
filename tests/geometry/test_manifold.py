"""The sensor manifold: the defining integral, its two surfaces, their inverses and their ends."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from fovigraph.geometry import (
    MANIFOLDS,
    LegacyManifold,
    PlanarManifold,
    SensorArray,
    sensor_manifold,
)

K = 10.0  # M(r) = K / (r + a)
few = settings(deadline=None, max_examples=20)
surfaces = pytest.mark.parametrize("name", sorted(MANIFOLDS))


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def magnification(r, a):
    return K / (r + a)


def planar_slope(r, a):
    """dρ/dr of ρ = M(r) r."""
    return K * a / (r + a) ** 2


def legacy_rho(r, a):
    return magnification(r, a) * np.sin(np.deg2rad(r)) * 180 / math.pi


def legacy_slope(r, a):
    """dρ/dr of ρ = M(r) sin(r) · 180 / π."""
    sine = np.sin(np.deg2rad(r)) * 180 / math.pi
    return magnification(r, a) * (np.cos(np.deg2rad(r)) - sine / (r + a))


def rise(slope, r, a):
    """dz/dr, so that a step along the radius is M(r) times as long as in the visual field."""
    return np.sqrt(np.maximum(magnification(r, a) ** 2 - slope(r, a) ** 2, 0))


def height(slope, r, a):
    """z(r) by adaptive quadrature of its definition."""
    return quad(lambda s: rise(slope, s, a), 0, r, epsabs=1e-10, epsrel=1e-10, limit=500)[0]


@pytest.mark.parametrize("cmf_a", [0.15, 0.5, 8.0, 60.0])
@pytest.mark.parametrize("r", [0.01, 1.0, 8.0, 20.0, 100.0])
def test_planar_z_is_the_defining_integral(cmf_a, r):
    _, z = PlanarManifold(cmf_a).profile(tensor(r))
    assert z.item() == pytest.approx(height(planar_slope, r, cmf_a), rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("cmf_a", [0.5, 8.0, 60.0])
@pytest.mark.parametrize("r", [1.0, 8.0, 20.0, 90.0])
def test_legacy_z_is_the_defining_integral_to_the_accuracy_of_its_mesh(cmf_a, r):
    _, z = LegacyManifold(cmf_a).profile(tensor(r))
    assert z.item() == pytest.approx(height(legacy_slope, r, cmf_a), rel=1e-8, abs=2e-5)


@few
@given(st.floats(0, 100), st.floats(0.05, 100))
def test_planar_rho_is_magnified_eccentricity(r, cmf_a):
    rho, _ = PlanarManifold(cmf_a).profile(tensor(r))
    assert rho.item() == pytest.approx(magnification(r, cmf_a) * r)


@few
@given(st.floats(0, 20), st.floats(0.05, 100))
def test_legacy_rho_is_the_magnified_sine(r, cmf_a):
    rho, _ = LegacyManifold(cmf_a).profile(tensor(r))
    assert rho.item() == pytest.approx(legacy_rho(r, cmf_a))


def test_legacy_z_is_summed_by_trapezoids_on_a_mesh_of_a_ten_thousandth_of_a_degree():
    mesh = np.arange(0, 30_001) * 1e-4
    steps = rise(legacy_slope, mesh, 0.5)
    z = np.concatenate(([0], np.cumsum((steps[1:] + steps[:-1]) / 2 * 1e-4)))
    _, got = LegacyManifold(0.5).profile(torch.from_numpy(mesh))
    np.testing.assert_allclose(got.numpy(), z, rtol=0, atol=1e-10)


def test_legacy_z_is_linear_between_mesh_points():
    _, (low, quarter, high) = LegacyManifold(0.5).profile(tensor(0.0200, 0.020025, 0.0201))
    assert quarter.item() == pytest.approx((3 * low + high).item() / 4, rel=1e-9)


def test_legacy_z_does_not_depend_on_the_other_points_asked_for():
    manifold = LegacyManifold(0.5)
    _, alone = manifold.profile(tensor(3.3))
    _, together = manifold.profile(tensor(3.3, 77.7))
    assert alone.item() == pytest.approx(together[0].item(), abs=1e-12)


@surfaces
@few
@given(r=st.floats(0.001, 100), cmf_a=st.floats(0.1, 60))
def test_a_step_along_the_radius_is_magnified_by_m(name, r, cmf_a):
    """The element of length: dρ² + dz² = M² dr²."""
    step = 1e-3 * (r + cmf_a)
    rho, z = sensor_manifold(name, cmf_a).profile(tensor(r, r + step))
    length = math.hypot((rho[1] - rho[0]).item(), (z[1] - z[0]).item())
    assert length == pytest.approx(magnification(r + step / 2, cmf_a) * step, rel=1e-3)


@few
@given(st.floats(0.01, 100), st.floats(0.1, 60))
def test_a_step_around_the_planar_surface_is_magnified_by_m_too(r, cmf_a):
    """A flat image's circumference is 2πr, so the planar surface keeps shapes."""
    here, there = PlanarManifold(cmf_a).to_cortical(tensor([r, 0.0], [r, 1e-4]))
    assert (there - here).norm().item() == pytest.approx(magnification(r, cmf_a) * r * 1e-4)


@surfaces
def test_cortical_coordinates_are_the_cylindrical_ones_made_cartesian(name):
    manifold = sensor_manifold(name, 0.5)
    polar = tensor([0.0, 0.0], [2.0, 0.7], [8.0, 4.0])
    rho, z = manifold.profile(polar[:, 0])
    expected = torch.stack((rho * polar[:, 1].cos(), rho * polar[:, 1].sin(), z), dim=1)
    torch.testing.assert_close(manifold.to_cortical(polar), expected)


@surfaces
def test_the_point_of_gaze_is_the_origin_and_comes_back(name):
    manifold = sensor_manifold(name, 0.5)
    assert manifold.to_cortical(tensor([0.0, 0.0])).tolist() == [[0, 0, 0]]
    assert manifold.to_polar(tensor([0.0, 0.0, 0.0])).tolist() == [[0, 0]]


@surfaces
@settings(deadline=None, max_examples=8)
@given(
    r=st.floats(1e-3, 120),  # a field of 80 degrees has padding to 60, one of 16 to 13
    theta=st.floats(0, 2 * math.pi, exclude_max=True),
    cmf_a=st.floats(0.05, 60),
)
def test_cortex_to_visual_field_inverts_visual_field_to_cortex(name, r, theta, cmf_a):
    manifold = sensor_manifold(name, cmf_a)
    radius, angle = manifold.to_polar(manifold.to_cortical(tensor([r, theta])))[0].tolist()
    assert radius == pytest.approx(r, rel=1e-6, abs=1e-6)
    assert math.remainder(angle - theta, 2 * math.pi) == pytest.approx(0, abs=1e-9)


@surfaces
def test_polar_angles_come_back_from_zero_up_to_a_full_turn(name):
    manifold = sensor_manifold(name, 0.5)
    angles = torch.linspace(-2 * math.pi, 4 * math.pi, 50, dtype=torch.float64)
    back = manifold.to_polar(manifold.to_cortical(torch.cartesian_prod(tensor(3.0), angles)))
    assert (back[:, 1] >= 0).all()
    assert (back[:, 1] < 2 * math.pi + 1e-12).all()


@surfaces
@pytest.mark.parametrize("shape", [(0,), (1,), (5,), (2, 3)])
def test_keeps_leading_dimensions_and_computes_in_double_precision(name, shape):
    manifold = sensor_manifold(name, 0.5)
    cortical = manifold.to_cortical(torch.ones(*shape, 2))
    assert cortical.shape == (*shape, 3)
    assert cortical.dtype == torch.float64
    polar = manifold.to_polar(cortical)
    assert polar.shape == (*shape, 2)
    assert polar.dtype == torch.float64


@surfaces
def test_takes_a_single_point(name):
    manifold = sensor_manifold(name, 0.5)
    point = torch.tensor([3.0, 0.7], dtype=torch.float64)
    cortical = manifold.to_cortical(point)
    torch.testing.assert_close(cortical, manifold.to_cortical(point[None])[0])
    torch.testing.assert_close(manifold.to_polar(cortical), point)


def test_the_legacy_surface_ends_at_180_degrees():
    manifold = LegacyManifold(0.5)
    manifold.profile(tensor(180.0))
    with pytest.raises(ValueError, match=r"'legacy'.*180 degrees.*got 181.*'planar'"):
        manifold.profile(tensor(10.0, 181.0))


def test_an_array_whose_padding_leaves_the_legacy_surface_is_refused():
    array = SensorArray(10, fov=300, field_geometry="legacy")
    assert array.cortical.isfinite().all()
    with pytest.raises(ValueError, match="smaller fov"):
        _ = array.padding_cortical


def test_the_planar_surface_does_not_end():
    array = SensorArray(10, fov=300)
    assert array.padding_cortical.isfinite().all()


@surfaces
@pytest.mark.parametrize("cmf_a", [0, -0.5, math.nan, math.inf])
def test_a_bad_cmf_a_is_refused(name, cmf_a):
    with pytest.raises(ValueError, match="cmf_a must be finite and above 0"):
        sensor_manifold(name, cmf_a)


@surfaces
@pytest.mark.parametrize("cmf_a", [1e-300, 1e7])
def test_a_cmf_a_beyond_the_limits_is_refused_with_them(name, cmf_a):
    with pytest.raises(ValueError, match=r"cmf_a must be from 1e-06 to 1e\+06, got"):
        sensor_manifold(name, cmf_a)


WRONG = [
    ([[1.0, 2.0]], TypeError, r"must be a torch\.Tensor of real numbers, got \[\[1.0, 2.0\]\]"),
    (None, TypeError, r"must be a torch\.Tensor of real numbers, got None"),
    (torch.ones(3, 2, dtype=torch.bool), TypeError, r"must be real numbers, got torch\.bool"),
    (torch.tensor(1.0), ValueError, r"must have shape \[\.\.\., .\], got \[\]"),
    (torch.rand(4, 5), ValueError, r"must have shape \[\.\.\., .\], got \[4, 5\]"),
]


@surfaces
@pytest.mark.parametrize(("points", "error", "message"), WRONG, ids=str)
def test_what_are_no_points_is_refused_by_name(name, points, error, message):
    manifold = sensor_manifold(name, 0.5)
    with pytest.raises(error, match=f"^polar {message}"):
        manifold.to_cortical(points)
    with pytest.raises(error, match=f"^cortical {message}"):
        manifold.to_polar(points)


@surfaces
def test_points_that_are_nowhere_are_refused_by_name(name):
    manifold = sensor_manifold(name, 0.5)
    for call, points, message in (
        (manifold.to_cortical, tensor([1.0, math.nan]), "polar must be finite, got nan"),
        (
            manifold.to_cortical,
            tensor([-1.0, 0.0]),
            r"polar\[\.\.\., 0\] must be at least 0 degrees",
        ),
        (manifold.to_polar, tensor([1.0, math.inf, 0.0]), "cortical must be finite, got inf"),
        (manifold.profile, tensor(-1.0), "eccentricity must be at least 0 degrees, got -1"),
        (manifold.profile, tensor(math.inf), "eccentricity must be finite, got inf"),
    ):
        with pytest.raises(ValueError, match=message):
            call(points)
    with pytest.raises(TypeError, match=r"eccentricity must be a torch\.Tensor of real numbers"):
        manifold.profile([1.0])


def test_points_that_the_surface_does_not_reach_are_refused():
    with pytest.raises(ValueError, match="cortical must lie less than 10 mm from the axis"):
        PlanarManifold(0.5).to_polar(tensor([11.0, 0.0, 3.0]))
    with pytest.raises(ValueError, match=r"cortical must lie at most .* mm high, .* got 1000"):
        LegacyManifold(0.5).to_polar(tensor([1.0, 0.0, 1000.0]))


def test_the_planar_surface_can_be_mapped_and_differentiated_by_transforms():
    manifold = PlanarManifold(0.5)
    polar = tensor([2.0, 0.7], [8.0, 4.0])
    assert torch.func.vmap(manifold.to_cortical)(polar).equal(manifold.to_cortical(polar))
    forward, backward = torch.func.jacfwd, torch.func.jacrev
    for point in polar:
        expected = torch.autograd.functional.jacobian(manifold.to_cortical, point)
        for jacobian in (forward, backward):
            torch.testing.assert_close(jacobian(manifold.to_cortical)(point), expected)


def test_the_planar_surface_has_gradients_and_the_legacy_one_refuses():
    polar = tensor([2.0, 0.7]).requires_grad_()
    PlanarManifold(0.5).to_cortical(polar).sum().backward()
    assert polar.grad.isfinite().all()
    manifold, away = LegacyManifold(0.5), torch.ones(2, device="meta")
    with pytest.raises(
        ValueError, match="polar must be on the CPU and require no gradient for a L"
    ):
        manifold.to_cortical(polar)
    with pytest.raises(
        ValueError, match=r"eccentricity must be on the CPU .* got a tensor on meta"
    ):
        manifold.profile(away)
    with pytest.raises(ValueError, match="cortical must be on the CPU and require no gradient"):
        manifold.to_polar(torch.rand(2, 3, requires_grad=True))


def test_an_unknown_surface_is_refused_and_the_nearest_suggested():
    message = r"field_geometry must be one of 'legacy', 'planar', got 'planer' \(did you mean 'pl"
    with pytest.raises(ValueError, match=message):
        sensor_manifold("planer", 0.5)


def test_prints_itself():
    assert repr(sensor_manifold("legacy", 0.5)) == "LegacyManifold(cmf_a=0.5)"
    assert repr(sensor_manifold("planar", 8.0)) == "PlanarManifold(cmf_a=8)"
