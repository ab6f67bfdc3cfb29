"""The exponential moving average of weights."""

import pytest
import torch
from torch import nn

from fovigraph.train.average import Average


def test_each_step_moves_the_average_by_one_minus_the_decay():
    layer = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(layer.weight)
    average = Average(layer, 0.5)
    wanted = 0.0
    for step, decay in enumerate(
        [1 / 10, 2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15, 7 / 16, 8 / 17, 0.5, 0.5]
    ):
        nn.init.constant_(layer.weight, step)
        average.update(step)
        wanted = decay * wanted + (1 - decay) * step
    assert average.weights["weight"].tolist() == [pytest.approx([wanted, wanted])]


def test_running_statistics_are_averaged_and_counts_are_not():
    norm = nn.BatchNorm1d(2)
    average = Average(norm, 0.9)
    norm(torch.randn(8, 2) + 5)
    average.update(50)
    assert average.weights["num_batches_tracked"] == 1
    assert torch.allclose(average.weights["running_mean"], 0.15 * norm.running_mean, atol=0.06)
    assert not torch.equal(average.weights["running_mean"], norm.running_mean)


def test_the_module_has_the_average_only_within():
    layer = nn.Linear(2, 2)
    average = Average(layer, 0.9)
    before = layer.weight.detach().clone()
    nn.init.ones_(layer.weight)
    with average.applied():
        assert torch.equal(layer.weight, before)
        assert torch.equal(average.trained()["weight"], torch.ones(2, 2))
        with average.applied():
            pass
        assert torch.equal(layer.weight, before)
    assert torch.equal(layer.weight, torch.ones(2, 2))
