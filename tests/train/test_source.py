"""What a recipe's data may be, found out at once."""

import pytest

from fovigraph.train import load_recipe
from fovigraph.train.source import DataError, check_source


def source(value):
    return load_recipe("fovi_tiny", [f"data.source={value}"]).data


@pytest.mark.parametrize("name", ["digits", "someone/birds"])
def test_what_needs_no_file_is_allowed(name):
    assert check_source(source(name)) == name


def test_a_folder_that_exists_is_allowed(tmp_path):
    assert check_source(source(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nofolder", "no file or folder 'nofolder'"),
        ("nowhere/at/all", "no file or folder 'nowhere/at/all'"),
        ("digit", "did you mean 'digits'"),
        ("null", "data.source must say what to learn from"),
    ],
)
def test_what_cannot_exist_is_refused(value, message):
    with pytest.raises(DataError, match=message):
        check_source(source(value))
