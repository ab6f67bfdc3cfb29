"""Checks of arguments: what passes, and what the errors say."""

import math
import os
from fractions import Fraction

import numpy as np
import pytest
import torch

from fovigraph import SensorArray
from fovigraph._checks import (
    flag,
    fraction,
    instance,
    one_of,
    path_of,
    positive_float,
    positive_int,
    regular_file,
    shown,
)

NOT_NUMBERS = [None, "3", b"3", [3], (3,), {3}, True, np.bool_(True), 3j, torch.tensor(3), object()]
no_number = pytest.mark.parametrize("value", NOT_NUMBERS, ids=lambda value: type(value).__name__)


@no_number
@pytest.mark.parametrize("check", [positive_int, positive_float, fraction])
def test_what_is_no_number_is_a_type_error_that_names_the_argument(check, value):
    with pytest.raises(TypeError, match=r"^size must be a .*number.*, got "):
        check("size", value)


@pytest.mark.parametrize("value", [np.float64(2), np.float32(2), 2.0, Fraction(4, 2), math.nan])
def test_a_number_that_is_no_integer_is_no_whole_number(value):
    with pytest.raises(TypeError, match="size must be a whole number of at least 1, got"):
        positive_int("size", value)


def test_numbers_of_any_library_pass_as_pythons_own():
    assert type(positive_int("size", np.int64(3))) is int
    assert type(positive_float("size", np.float32(0.5))) is float
    assert positive_float("size", Fraction(1, 2)) == fraction("size", Fraction(1, 2)) == 0.5


def test_limits_are_inclusive_and_said():
    assert positive_int("k", 5, most=5) == 5
    with pytest.raises(ValueError, match=r"^k must be at most 5, got 6$"):
        positive_int("k", 6, most=5)
    assert positive_float("fov", 2, 2, 3) == 2
    for value in (1.5, 3.5):
        with pytest.raises(ValueError, match=rf"^fov must be from 2 to 3, got {value}$"):
            positive_float("fov", value, 2, 3)


@pytest.mark.parametrize("value", [10**400, -(10**400), 10**5000], ids=["high", "low", "huge"])
def test_integers_that_no_float_holds_are_refused_by_name(value):
    for check in (positive_float, fraction):
        with pytest.raises(ValueError, match="size must be "):
            check("size", value)


@pytest.mark.parametrize("value", [None, 1, 0, "True", np.bool_(True), torch.tensor(True)], ids=str)
def test_a_flag_is_true_or_false(value):
    assert flag("loops", True) is True
    with pytest.raises(TypeError, match="loops must be True or False, got"):
        flag("loops", value)


@pytest.mark.parametrize("value", [None, 3, ["max"], np.array(["max"]), torch.ones(3)], ids=repr)
def test_a_name_that_is_no_string_is_a_type_error(value):
    with pytest.raises(TypeError, match="mode must be one of 'max', 'sum', got "):
        one_of("mode", value, ("sum", "max"))


def test_an_instance_passes_and_anything_else_is_named_with_what_is_allowed():
    array = SensorArray(2)
    assert instance("src", array, SensorArray) is array
    with pytest.raises(TypeError, match=r"^src must be a SensorArray, got 3$"):
        instance("src", 3, SensorArray)
    with pytest.raises(TypeError, match=r"^src must be an array, got None$"):
        instance("src", None, SensorArray, allowed="an array")


class Broken:
    def __repr__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        ("a", "'a'"),
        (torch.ones(2, 3), "a torch.Tensor of shape [2, 3] and dtype torch.float32"),
        (np.ones((2, 1)), "a numpy.ndarray of shape [2, 1] and dtype float64"),
        (torch.tensor(2), "tensor(2)"),
        ("a\n  b", r"'a\n b'"),
        ([10**9] * 100, str([10**9] * 100)[:200] + "…"),
        (Broken(), "a value of type Broken"),
    ],
    ids=["int", "str", "tensor", "array", "0-d tensor", "lines", "long", "broken"],
)
def test_values_are_shown_in_one_short_line(value, text):
    assert shown(value) == text


def test_only_a_regular_file_is_one(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    regular_file(tmp_path / "file")
    regular_file(str(tmp_path / "link"))
    with pytest.raises(FileNotFoundError):
        regular_file(tmp_path / "nothing")
    for path, kind in ((tmp_path / "pipe", "a named pipe"), (os.devnull, "a device")):
        with pytest.raises(OSError, match=f"not a regular file, but {kind}: '{path}'"):
            regular_file(path)
    with pytest.raises(IsADirectoryError):
        regular_file(tmp_path)


def test_a_name_that_no_file_can_have_is_refused():
    with pytest.raises(ValueError, match="folder must be a path of names of at most 255 bytes"):
        path_of("folder", f"here/{'ä' * 128}/there")
    assert path_of("folder", f"here/{'ä' * 127}").name == "ä" * 127
