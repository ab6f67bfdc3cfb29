"""Optimisers, and the course of the learning rate."""

import math

import pytest
import torch
from torch import nn

from fovigraph.train import load_recipe
from fovigraph.train.optim import learning_rate, make_optimizer, set_learning_rate


def config(*overrides):
    return load_recipe("fovi_tiny", [f"optimizer.{each}" for each in overrides]).optimizer


def test_warm_up_then_half_a_cosine():
    setting = config("learning_rate=0.5", "final=0.1")
    rates = [learning_rate(setting, step, 30, 10) for step in range(30)]
    assert rates[:10] == pytest.approx([0.05 * step for step in range(1, 11)])
    assert rates[10] == 0.5
    assert rates[20] == pytest.approx(0.5 * (0.1 + 0.9 * 0.5))
    assert rates[29] == pytest.approx(0.5 * (0.1 + 0.45 * (1 + math.cos(math.pi * 19 / 20))))


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_biases_and_norms_do_not_decay(name):
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = make_optimizer(layer, config(f"name={name}", "weight_decay=0.5", "momentum=0"))
    before = [p.detach().clone() for p in layer.parameters()]
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    changed = [not torch.equal(p, q) for p, q in zip(layer.parameters(), before, strict=True)]
    assert changed == [True, False, False, False]


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_every_optimiser_finds_the_least_squares(name):
    torch.manual_seed(0)
    layer, wanted = nn.Linear(4, 2, bias=False), nn.Linear(4, 2, bias=False)
    rate = {"adamw": 0.05, "sgd": 0.1, "lars": 20.0}[name]
    setting = config(f"name={name}", f"learning_rate={rate}", "weight_decay=0", "momentum=0.5")
    optimizer = make_optimizer(layer, setting)
    x = torch.randn(64, 4)
    losses = []
    for step in range(300):
        optimizer.zero_grad()
        loss = (layer(x) - wanted(x)).square().mean()
        loss.backward()
        losses.append(loss.item())
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(setting, step, 300, 0)
        optimizer.step()
    assert losses[-1] < 1e-2 * losses[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"learning_rate": 1.0}}, "config must be a recipe's section 'optimizer', got"),
        ({"config": None}, "config must be a recipe's section 'optimizer', got None"),
        ({"step": -1}, "step must be at least 0, got -1"),
        ({"step": 31}, "step must be at most 30, got 31"),
        ({"step": 1.5}, r"step must be a whole number .*, got 1\.5"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"steps": "30"}, "steps must be a whole number"),
        ({"warmup": -1}, "warmup must be at least 0, got -1"),
        ({"warmup": None}, "warmup must be a whole number .*, got None"),
    ],
)
def test_what_is_no_step_of_a_schedule_is_named(change, message):
    arguments = {"config": config(), "step": 0, "steps": 30, "warmup": 10, **change}
    with pytest.raises((ValueError, TypeError), match=message):
        learning_rate(**arguments)


def test_what_cannot_be_optimised_is_named():
    with pytest.raises(TypeError, match="module must be a Module, got 'net'"):
        make_optimizer("net", config())
    with pytest.raises(ValueError, match="module must have parameters that require gradients"):
        make_optimizer(nn.ReLU(), config())
    with pytest.raises(TypeError, match="config must be a recipe's section 'optimizer', got None"):
        make_optimizer(nn.Linear(2, 2), None)
    with pytest.raises(TypeError, match="scaled must be True or False, got 1"):
        make_optimizer(nn.Linear(2, 2), config(), scaled=1)


def test_the_learning_rate_is_scaled_with_the_batch():
    setting = config("learning_rate=0.5", "reference_batch=256")
    assert learning_rate(setting, 0, 10, 0, 64) == 0.125
    assert learning_rate(config("learning_rate=0.5"), 0, 10, 0, 64) == 0.5


def test_layers_learn_the_slower_the_earlier_they_are():
    net = nn.Module()
    net.backbone, net.head = nn.Module(), nn.Linear(2, 3)
    net.backbone.layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(2)])
    net.backbone.norm = nn.LayerNorm(2)
    optimizer = make_optimizer(net, config("layer_decay=0.5"))
    set_learning_rate(optimizer, 0.8)
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    told = {name: rates[p] for name, p in net.named_parameters() if name.endswith("bias")}
    assert told == {
        "backbone.layers.0.bias": 0.2,
        "backbone.layers.1.bias": 0.4,
        "backbone.norm.bias": 0.4,
        "head.bias": 0.8,
    }
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05, 0] * 3


def test_a_constant_rate_after_the_warm_up():
    setting = config("learning_rate=0.5", "schedule=constant")
    assert [learning_rate(setting, step, 9, 2) for step in range(4)] == [0.25, 0.5, 0.5, 0.5]


def test_the_rate_falls_where_the_loss_does_not():
    setting = config("learning_rate=0.5", "schedule=plateau", "plateau_patience=1")
    losses = [3.0, 2.0, 2.5, 2.4, 2.3, 2.2]
    rates = [learning_rate(setting, 5, 9, 0, losses=losses[:n]) for n in range(7)]
    assert rates == pytest.approx([0.5] * 4 + [0.05] * 2 + [0.005])
