"""The classes of data and network."""

import pytest

from fovigraph.train import load_recipe
from fovigraph.train.classes import match_classes, with_classes
from fovigraph.train.source import DataError


def recipe(*overrides):
    return load_recipe("fovi_tiny", ["data.source=photos", *overrides])


def test_the_data_say_how_many_classes_there_are_and_their_names():
    found = match_classes(recipe(), ["cat", "dog"])
    assert (found.names, found.order) == (["cat", "dog"], None)
    assert found.note == "2 classes of photos: cat, dog (the configuration had 10)"


def test_names_of_the_recipe_keep_their_order():
    names, order, _ = match_classes(
        recipe("head.class_names=[dog, emu, cat]"), ["cat", "dog", "emu"]
    )
    assert names == ["dog", "emu", "cat"]
    assert order.tolist() == [2, 0, 1]


def test_names_of_the_network_to_start_from_keep_their_order():
    names, order, _ = match_classes(recipe(), ["cat", "dog"], ["dog", "cat"])
    assert (names, order.tolist()) == (["dog", "cat"], [1, 0])


def test_other_names_in_a_configuration_give_way():
    had = with_classes(recipe(), ["plane", "ship"])
    found = match_classes(had, ["cat", "dog"])
    assert found.names == ["cat", "dog"]
    assert "the configuration had plane, ship" in found.note


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("head.num_classes=7", "head.num_classes must be 2, .* in 'photos', got 7"),
        (
            "head.class_names=[cat, cow]",
            "head.class_names must be .*'photos', cat, dog, got cat, cow",
        ),
    ],
)
def test_an_override_that_contradicts_the_data_is_refused(override, message):
    with pytest.raises(DataError, match=message):
        match_classes(recipe(override), ["cat", "dog"])


def test_classes_of_a_recipe_are_not_calibrated():
    head = with_classes(recipe("head.temperature=2", "head.sharpening=1"), ["a", "b"]).head
    assert (head.num_classes, head.temperature, head.sharpening) == (2, 1, 0)
