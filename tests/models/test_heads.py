"""Projector and probe: shapes, and what is refused."""

import pytest
import torch

import fovigraph as fg
from fovigraph.models import LinearProbe, Projector


def test_shapes():
    features = torch.rand(2, 3, 5)
    assert Projector(5, [8, 4])(features).shape == (2, 3, 4)
    assert Projector(5, [])(features) is not None
    assert Projector(5, ()).out_features == 5
    assert LinearProbe(5, 7)(features).shape == (2, 3, 7)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Projector(0, [4]), ValueError, "in_features must be at least 1, got 0"),
        (lambda: Projector(4, [0]), ValueError, r"channels\[0\] must be at least 1, got 0"),
        (lambda: Projector(4, [2, 2.5]), TypeError, r"channels\[1\] must be a whole number"),
        (lambda: Projector(4, [True]), TypeError, r"channels\[0\] must be a whole number"),
        (lambda: Projector(4, 3), TypeError, "channels must be a list of whole numbers, got 3"),
        (lambda: Projector(4, None), TypeError, "channels must be a list of whole numbers"),
        (lambda: Projector(4, "32"), TypeError, "channels must be a list .*, got '32'"),
        (lambda: Projector(4, torch.tensor(3)), TypeError, "channels must be a list"),
        (lambda: Projector(4, [3, 2], norm="bach"), ValueError, "norm must be one of"),
        (lambda: Projector(4, [3], dropout=float("nan")), ValueError, "dropout must be from 0"),
        (lambda: Projector(4, [3], dropout="half"), TypeError, "dropout must be a number"),
        (lambda: LinearProbe(4, 0), ValueError, "num_classes must be at least 1, got 0"),
        (lambda: LinearProbe(4, None), TypeError, "num_classes must be a whole number"),
        (lambda: LinearProbe(-1, 2), ValueError, "in_features must be at least 1, got -1"),
        (
            lambda: Projector(4, [2**18, 2**18]),
            ValueError,
            "in_features × channels must be at most",
        ),
        (
            lambda: LinearProbe(2**20, 2**20),
            ValueError,
            "in_features × num_classes must be at most",
        ),
        (lambda: LinearProbe(4, 2, 1.5), ValueError, "dropout must be from 0 to 1, got 1.5"),
    ],
)
def test_what_cannot_be_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_classes": 2, "class_names": ["a"]},
        {"num_classes": -1},
        {"num_classes": True},
        {"class_names": "ab"},
        {"class_names": ["a", " "]},
        {"class_names": ["a", "a"]},
        {"class_names": ["a", 3]},
    ],
    ids=str,
)
def test_wrong_classes_are_refused_alike_with_random_and_with_trained_weights(arguments):
    with pytest.raises((ValueError, TypeError)) as fresh:
        fg.create_model("fovi_tiny", **arguments)
    with pytest.raises(fresh.type) as trained:
        fg.FoviNet.from_pretrained("fovi_cifar10", **arguments)
    assert str(fresh.value) == str(trained.value)
