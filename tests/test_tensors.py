"""Checks of tensors."""

import math

import pytest
import torch

from fovigraph._tensors import (
    check_below,
    finite,
    float_tensor,
    index_tensor,
    may_inspect,
    real_tensor,
    same_device,
)


def test_values_are_looked_at_only_where_that_is_free():
    assert may_inspect(torch.ones(2))
    assert not may_inspect(torch.ones(2, device="meta"))


def test_values_are_not_looked_at_under_a_transform():
    def doubled(values):
        return 2 * finite("values", values)

    values = torch.rand(3)
    assert torch.func.vmap(doubled)(values).equal(2 * values)
    assert torch.func.vmap(torch.func.grad(doubled))(values).tolist() == [2, 2, 2]


def test_real_numbers_of_the_right_shape_pass_as_they_are():
    for values in (torch.ones(4, 2), torch.ones(2, dtype=torch.int16), torch.ones(0, 2).half()):
        assert real_tensor("polar", values, ("...", 2)) is values
    assert real_tensor("polar", values := torch.tensor(1.0)) is values


COMPLEX, BOOL = torch.ones(2, dtype=torch.complex64), torch.ones(2, dtype=torch.bool)


@pytest.mark.parametrize("value", [None, 1.0, [[1.0, 2.0]], BOOL, COMPLEX], ids=str)
@pytest.mark.parametrize("check", [real_tensor, float_tensor])
def test_what_is_no_tensor_of_real_numbers_is_a_type_error(check, value):
    with pytest.raises(TypeError, match=r"polar must be .*(real numbers|floating).*, got"):
        check("polar", value)


def test_whole_numbers_are_real_and_not_floating_point():
    real_tensor("share", torch.arange(3))
    with pytest.raises(TypeError, match=r"share must be floating point, got torch\.int64"):
        float_tensor("share", torch.arange(3))


@pytest.mark.parametrize(
    "value", [None, [0, 1], torch.ones(2), torch.ones(2).int(), BOOL, COMPLEX], ids=str
)
def test_indices_are_int64_and_nothing_else(value):
    with pytest.raises(TypeError, match=r"src must be .*int64.*, got"):
        index_tensor("src", value, ("E",))


@pytest.mark.parametrize(
    ("wanted", "given", "text"),
    [
        (("...", 2), (), r"\[\.\.\., 2\], got \[\]"),
        (("...", 2), (2, 3), r"\[\.\.\., 2\], got \[2, 3\]"),
        ((2, "E"), (3, 4), r"\[2, E\], got \[3, 4\]"),
        (("E",), (3, 1), r"\[E\], got \[3, 1\]"),
        ((5,), (4,), r"\[5\], got \[4\]"),
    ],
)
def test_another_shape_is_refused_with_the_one_that_is_allowed(wanted, given, text):
    with pytest.raises(ValueError, match=rf"cell must have shape {text}"):
        index_tensor("cell", torch.zeros(given, dtype=torch.int64), wanted)


def test_indices_of_what_there_is_not_are_refused_with_the_count():
    check_below("cell", torch.tensor([0, 8]), num_cells=9)
    check_below("cell", torch.tensor([], dtype=torch.int64), num_cells=0)
    check_below("cell", torch.ones(2, dtype=torch.int64, device="meta"), num_cells=0)
    for low, high in ((-1, 3), (0, 9)):
        with pytest.raises(ValueError, match=f"below num_cells=9, got {low} to {high}"):
            check_below("cell", torch.tensor([low, high]), num_cells=9)


def test_what_is_not_finite_is_refused_with_a_sample():
    for values in (torch.ones(2), torch.arange(3), torch.ones(0)):
        assert finite("share", values) is values
    with pytest.raises(ValueError, match=r"share must be finite, got nan \(2 of 3 are not\)"):
        finite("share", torch.tensor([1, math.nan, math.inf]))


def test_tensors_on_several_devices_are_refused_by_name():
    here, there = torch.ones(2), torch.ones(2, device="meta")
    same_device(dst=here, src=here, share=None)
    with pytest.raises(ValueError, match="src must be on cpu like dst, got it on meta"):
        same_device(dst=here, src=there)
