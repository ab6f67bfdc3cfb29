"""Conversions of coordinates."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fovigraph as fg
from fovigraph.geometry import (
    cartesian_to_polar,
    complex_log,
    first_ring,
    log_radius,
    polar_to_cartesian,
    row_column_to_xy,
    xy_to_row_column,
)

numbers = st.floats(-1e3, 1e3)


@given(numbers, numbers)
def test_there_and_back(x, y):
    point = torch.tensor([x, y], dtype=torch.float64)
    for there, back in (
        (cartesian_to_polar, polar_to_cartesian),
        (xy_to_row_column, row_column_to_xy),
    ):
        torch.testing.assert_close(back(there(point)), point, atol=1e-9, rtol=1e-9)


def test_angles_are_from_0_to_2_pi():
    polar = cartesian_to_polar(torch.tensor([[0.0, -2.0], [3.0, 0.0]]))
    torch.testing.assert_close(polar, torch.tensor([[2, 1.5 * math.pi], [3, 0]]).double())


def test_rows_count_down_and_columns_to_the_right():
    corners = torch.tensor([[0.0, 0.0], [0.5, 0.5], [1.0, 0.0]])
    assert row_column_to_xy(corners).tolist() == [[-1, 1], [0, 0], [-1, -1]]


def test_an_arrays_own_coordinates():
    array = fg.SensorArray(12)
    torch.testing.assert_close(polar_to_cartesian(array.polar), array.degrees)
    rings = torch.unique(log_radius(array.cartesian, 16, 0.5).round(decimals=9))
    torch.testing.assert_close(rings, torch.arange(12).double() / 11, atol=1e-8, rtol=0)


def test_both_halves_have_the_same_complex_logarithm():
    x, y = 3.0, -4.0
    log = complex_log(torch.tensor([[x, y], [-x, y]]) / 8, 16.0, 0.5)
    expected = torch.log(torch.tensor(complex(x + 0.5, y), dtype=torch.complex128))
    torch.testing.assert_close(log, torch.view_as_real(expected).expand(2, 2))


def test_the_first_ring_is_the_nearest_to_the_gaze():
    ring = first_ring(fg.SensorArray(8))
    assert len(ring) == 6
    torch.testing.assert_close(ring[0], torch.tensor([0.0311825, 0]).double(), atol=1e-6, rtol=0)
    assert len(first_ring(fg.SensorArray(8, layout="warped_cartesian"))) == 4
    with pytest.raises(ValueError, match=r"nodes away from the point of gaze, got SensorArray\(1 "):
        first_ring(fg.SensorArray(1))


@pytest.mark.parametrize("convert", [polar_to_cartesian, cartesian_to_polar, row_column_to_xy])
def test_bad_input(convert):
    with pytest.raises(ValueError, match=r"must have shape \[\.\.\., 2\]"):
        convert(torch.zeros(3))
    with pytest.raises(TypeError, match=r"must be a torch\.Tensor"):
        convert([0.0, 1.0])
    with pytest.raises(ValueError, match="must be finite"):
        convert(torch.tensor([math.nan, 0.0]))


def test_bad_fields():
    for function in (log_radius, complex_log):
        with pytest.raises(ValueError, match="fov must be"):
            function(torch.zeros(2), -1.0, 0.5)
        with pytest.raises(ValueError, match="cmf_a must be"):
            function(torch.zeros(2), 16.0, 0.0)
