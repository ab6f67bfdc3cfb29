"""Cortical magnification: millimetres of cortex for a degree of the visual field."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fovigraph.geometry import magnification

degrees = st.floats(0, 180)
constants = st.floats(0.01, 100)
few = settings(deadline=None, max_examples=30)


@few
@given(degrees, constants)
def test_is_k_over_eccentricity_plus_a(eccentricity, cmf_a):
    got = magnification(torch.tensor(eccentricity, dtype=torch.float64), cmf_a)
    assert got.item() == pytest.approx(10 / (eccentricity + cmf_a))


@few
@given(constants)
def test_is_half_its_foveal_value_at_the_eccentricity_a(cmf_a):
    at_centre, at_a = magnification(torch.tensor([0.0, cmf_a], dtype=torch.float64), cmf_a)
    assert at_a.item() == pytest.approx(at_centre.item() / 2)


def test_a_smaller_a_is_more_foveated():
    r = torch.tensor([0.0, 8.0])
    centre, edge = magnification(r, 0.5)
    flat_centre, flat_edge = magnification(r, 60.0)
    assert centre / edge > 10 > flat_centre / flat_edge > 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_shape_and_dtype(dtype):
    got = magnification(torch.ones(2, 3, dtype=dtype), 0.5)
    assert got.shape == (2, 3)
    assert got.dtype == dtype


@pytest.mark.parametrize(
    ("eccentricity", "cmf_a", "error", "message"),
    [
        (torch.rand(3), -1.0, ValueError, "cmf_a must be finite and above 0, got -1"),
        (torch.rand(3), 1e-300, ValueError, r"cmf_a must be from 1e-06 to 1e\+06, got 1e-300"),
        (torch.rand(3), "0.5", TypeError, "cmf_a must be a finite number above 0, got '0.5'"),
        (torch.rand(3), True, TypeError, "cmf_a must be a finite number above 0, got True"),
        ([1.0], 0.5, TypeError, r"eccentricity must be a torch\.Tensor of real numbers, got \[1"),
        (None, 0.5, TypeError, "eccentricity must be a torch.Tensor of real numbers, got None"),
        (-torch.ones(3), 0.5, ValueError, "eccentricity must be at least 0 degrees, got -1"),
        (torch.ones(3) / 0, 0.5, ValueError, "eccentricity must be finite, got inf"),
    ],
    ids=str,
)
def test_what_has_no_magnification_is_refused_by_name(eccentricity, cmf_a, error, message):
    with pytest.raises(error, match=message):
        magnification(eccentricity, cmf_a)
