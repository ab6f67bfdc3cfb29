"""Optimisers, and the course of the learning rate."""

from __future__ import annotations

import math
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from fovigraph._checks import flag, instance, positive_int, shown, whole_number


def make_optimizer(
    module: nn.Module, config: DictConfig, *, scaled: bool = False
) -> torch.optim.Optimizer:
    """Make the optimiser of a recipe.

    Args:
        module: What learns. Biases and norms, which are vectors, are not decayed.
        config: A recipe's section ``optimizer``.
        scaled: Whether gradients come from a scaled loss, as in ``"16-mixed"`` precision.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If ``module`` has nothing to learn.
    """
    instance("module", module, nn.Module)
    _check_section(config)
    flag("scaled", scaled)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("module must have parameters that require gradients, got none")
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.name == "adamw":
        betas = (config.momentum, 0.999)
        # Fused, it takes the scale out itself, after gradients would have been clipped.
        return torch.optim.AdamW(groups, config.learning_rate, betas=betas, fused=not scaled)
    if config.name == "sgd":
        return torch.optim.SGD(groups, config.learning_rate, config.momentum)
    from pytorch_optimizer import LARS

    return LARS(groups, config.learning_rate, momentum=config.momentum)


def learning_rate(config: DictConfig, step: int, steps: int, warmup: int) -> float:
    """Return the learning rate of a step: linear warm-up, then half a cosine.

    Args:
        config: A recipe's section ``optimizer``.
        step: The step, from 0.
        steps: Their number.
        warmup: Of them, those of the warm-up.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.
    """
    _check_section(config)
    positive_int("steps", steps)
    whole_number("step", step, 0, steps)
    whole_number("warmup", warmup)
    if step < warmup:
        return float(config.learning_rate * (step + 1) / warmup)
    done = (step - warmup) / max(steps - warmup, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return float(config.learning_rate * (config.final + (1 - config.final) * cosine))


def _check_section(config: Any) -> None:
    if not isinstance(config, DictConfig) or "learning_rate" not in config:
        raise TypeError(f"config must be a recipe's section 'optimizer', got {shown(config)}")
