"""The classifier whose neighbours vote."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fovigraph.train import knn
from fovigraph.train.knn import knn_accuracy


def groups(count, classes=4, dim=6, spread=1.0):
    """Features scattered around a centre for every class, and their classes."""
    centres = torch.randn(classes, dim, generator=torch.Generator().manual_seed(1))
    labels = torch.randint(classes, (count,))
    return centres[labels] + spread * torch.randn(count, dim), labels


def plain_accuracy(train, train_labels, test, test_labels, k, temperature):
    correct = 0
    for query, label in zip(test, test_labels.tolist(), strict=True):
        similarity = [F.cosine_similarity(query, other, dim=0).item() for other in train]
        nearest = sorted(range(len(train)), key=lambda i: -similarity[i])[:k]
        votes = [0.0] * (int(train_labels.max()) + 1)
        for i in nearest:
            votes[train_labels[i]] += math.exp(similarity[i] / temperature)
        correct += votes.index(max(votes)) == label
    return correct / len(test)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 1.0), (60, 0.2)])
def test_equals_the_plain_classifier(k, temperature):
    train, test = groups(60), groups(40)
    accuracy = knn_accuracy(*train, *test, k=k, temperature=temperature)
    assert accuracy == plain_accuracy(*train, *test, k, temperature)
    assert 0.3 < accuracy < 1


def test_is_that_of_scikit_learn():
    neighbors = pytest.importorskip("sklearn.neighbors")
    train, test = groups(300), groups(200)
    model = neighbors.KNeighborsClassifier(
        10, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07)
    )
    expected = model.fit(*(x.numpy() for x in train)).score(*(x.numpy() for x in test))
    assert knn_accuracy(*train, *test, k=10) == pytest.approx(expected, abs=1e-9)


def test_chunks_make_no_difference(monkeypatch):
    train, test = groups(50), groups(33)
    whole = knn_accuracy(*train, *test)
    monkeypatch.setattr(knn, "SIMILARITIES", 200)
    assert knn_accuracy(*train, *test) == whole


def test_length_of_features_makes_no_difference():
    train, test = groups(50), groups(33)
    longer = train[0] * torch.rand(50, 1).add(0.1)
    assert knn_accuracy(longer, train[1], *test) == knn_accuracy(*train, *test)


def test_all_vote_where_there_are_fewer_than_k():
    train, test = groups(7), groups(20)
    assert knn_accuracy(*train, *test, k=20) == knn_accuracy(*train, *test, k=7)


def test_a_class_that_was_never_seen_is_never_right():
    train, _ = groups(20)
    assert knn_accuracy(train, torch.zeros(20).long(), train, torch.full((20,), 9)) == 0


def test_a_small_temperature_is_finite():
    train, test = groups(60), groups(40)
    small = knn_accuracy(*train, *test, k=5, temperature=1e-4)
    assert small == knn_accuracy(*train, *test, k=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"temperature": 0.0}, "temperature must be finite and above 0, got 0"),
        ({"train_features": torch.zeros(0, 3)}, r"train_features must be \[N, D\].* got \[0, 3\]"),
        ({"test_features": torch.zeros(4, 2)}, "test_features must have as many .* 3, got 2"),
        ({"test_labels": torch.zeros(3).long()}, "test_labels must be one for each of 4"),
        ({"train_labels": torch.zeros(5)}, "train_labels must be whole numbers, got torch.float32"),
        ({"train_labels": torch.full((5,), -1)}, "train_labels must be at least 0, got -1"),
        ({"train_features": torch.full((5, 3), math.nan)}, "train_features must be finite"),
        ({"test_features": [[1.0, 2.0, 3.0]]}, r"test_features must be a torch\.Tensor"),
        ({"test_features": torch.ones(4, 3).bool()}, "test_features must be real numbers"),
        ({"train_labels": None}, r"train_labels must be a torch\.Tensor .* got None"),
        ({"k": 2.0}, "k must be a whole number"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {
        "train_features": torch.randn(5, 3),
        "train_labels": torch.arange(5),
        "test_features": torch.randn(4, 3),
        "test_labels": torch.arange(4),
    }
    with pytest.raises((ValueError, TypeError), match=message):
        knn_accuracy(**{**arguments, **change})
