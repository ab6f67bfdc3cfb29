"""Checks of tensors."""

import pytest
import torch

from fovigraph._tensors import may_inspect, real_tensor


def test_values_are_looked_at_only_where_that_is_free():
    assert may_inspect(torch.ones(2))
    assert not may_inspect(torch.ones(2, device="meta"))


def test_real_numbers_of_the_right_shape_pass_as_they_are():
    for values in (torch.ones(4, 2), torch.ones(2, dtype=torch.int16), torch.ones(0, 2).half()):
        assert real_tensor("polar", values, last=2) is values
    assert real_tensor("polar", values := torch.tensor(1.0)) is values


@pytest.mark.parametrize(
    "value",
    [None, 1.0, [[1.0, 2.0]], torch.ones(2, dtype=bool), torch.ones(2, dtype=torch.complex64)],
    ids=str,
)
def test_what_is_no_tensor_of_real_numbers_is_a_type_error(value):
    with pytest.raises(TypeError, match=r"polar must be .*real numbers, got"):
        real_tensor("polar", value)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 0)])
def test_another_last_dimension_is_refused_with_the_shape(shape):
    with pytest.raises(ValueError, match=r"polar must have shape \[\.\.\., 2\], got \["):
        real_tensor("polar", torch.ones(shape), last=2)
