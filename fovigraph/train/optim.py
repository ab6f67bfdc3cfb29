"""Optimisers, and the course of the learning rate."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fovigraph._checks import (
    flag,
    fraction,
    instance,
    one_of,
    positive_float,
    positive_int,
    shown,
    whole_number,
)
from fovigraph._schema import Section

OPTIMIZERS = ("adamw", "sgd", "lars")
SCHEDULES = ("cosine", "constant", "plateau")


@dataclass(frozen=True)
class OptimizerConfig(Section):
    """The optimiser of a recipe.

    Attributes:
        name: ``"adamw"``, ``"sgd"`` or ``"lars"``.
        learning_rate: The highest, for a whole batch.
        reference_batch: Number of images in the batch that ``learning_rate`` is for: with
            ``train.batch_size`` images it is ``learning_rate · batch_size / reference_batch`` (the
            linear scaling rule, Goyal et al. 2017); ``None``: it is not scaled.
        layer_decay: Factor of the learning rate from one layer to the layer before it: projector
            and head have the whole rate, the backbone's last layer ``layer_decay`` times that, the
            one before it ``layer_decay²`` times, and so on. 1: all have the same.
        weight_decay: Of weights; biases and norms have none.
        momentum: Of ``sgd`` and ``lars``; the first beta of ``adamw``.
        eps: Of ``adamw``, added to the root of the mean square of gradients.
        warmup: Epochs over which the learning rate rises linearly from 0.
        schedule: How it goes on after the warm-up: ``"cosine"``, half a cosine down to ``final``;
            ``"constant"``; or ``"plateau"``, multiplied by ``plateau_factor`` whenever the test
            loss has not become lower for more than ``plateau_patience`` evaluations in a row.
        final: What it falls to, along a cosine, as a fraction of the highest.
        plateau_factor: Of ``"plateau"``.
        plateau_patience: Of ``"plateau"``, evaluations.
        clip: Largest norm of the gradients; ``None``: any.
    """

    SECTION = "optimizer"

    name: str = "adamw"
    learning_rate: float = 1e-3
    reference_batch: int | None = None
    layer_decay: float = 1.0
    weight_decay: float = 0.05
    momentum: float = 0.9
    eps: float = 1e-8
    warmup: float = 1.0
    schedule: str = "cosine"
    final: float = 0.0
    plateau_factor: float = 0.1
    plateau_patience: int = 5
    clip: float | None = None

    def check(self) -> None:
        one_of("optimizer.name", self.name, OPTIMIZERS)
        positive_float("optimizer.learning_rate", self.learning_rate)
        one_of("optimizer.schedule", self.schedule, SCHEDULES)
        if not 0 < self.plateau_factor < 1:
            raise ValueError(
                f"optimizer.plateau_factor must be above 0 and below 1, got {self.plateau_factor}"
            )
        if self.plateau_patience < 0:
            raise ValueError(
                f"optimizer.plateau_patience must be at least 0, got {self.plateau_patience}"
            )
        if self.reference_batch is not None:
            positive_int("optimizer.reference_batch", self.reference_batch)
        if not 0 < self.layer_decay <= 1:
            raise ValueError(
                f"optimizer.layer_decay must be above 0, up to 1, got {self.layer_decay}"
            )
        fraction("optimizer.final", self.final)
        for name in ("weight_decay", "warmup"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"optimizer.{name} must be at least 0, got {value}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"optimizer.momentum must be at least 0, below 1, got {self.momentum}")
        positive_float("optimizer.eps", self.eps)
        if self.clip is not None:
            positive_float("optimizer.clip", self.clip)


def make_optimizer(
    module: nn.Module, config: OptimizerConfig, *, scaled: bool = False
) -> torch.optim.Optimizer:
    """Make the optimiser of a recipe.

    Args:
        module: What learns. Biases and norms, which are vectors, are not decayed.
        config: A recipe's section ``optimizer``. With a ``layer_decay`` below 1, every group of
            parameters has an entry ``"scale"``, the factor of its learning rate.
        scaled: Whether gradients come from a scaled loss, as in ``"16-mixed"`` precision.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If ``module`` has nothing to learn.
    """
    instance("module", module, nn.Module)
    _check_section(config)
    flag("scaled", scaled)
    learnt = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not learnt:
        raise ValueError("module must have parameters that require gradients, got none")
    if config.layer_decay == 1:
        groups = _groups(learnt.values(), config.weight_decay)
    else:
        depth = layers_above(learnt)
        groups = [
            group | {"scale": config.layer_decay**above}
            for above in sorted(set(depth.values()))
            for group in _groups(
                (p for name, p in learnt.items() if depth[name] == above), config.weight_decay
            )
            if group["params"]
        ]
    if config.name == "adamw":
        betas = (config.momentum, 0.999)
        # Fused, it takes the scale out itself, after gradients would have been clipped.
        return torch.optim.AdamW(
            groups, config.learning_rate, betas=betas, eps=config.eps, fused=not scaled
        )
    if config.name == "sgd":
        return torch.optim.SGD(groups, config.learning_rate, config.momentum)
    from pytorch_optimizer import LARS

    return LARS(groups, config.learning_rate, momentum=config.momentum)


def _groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    parameters = list(parameters)
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def layers_above(names: Iterable[str]) -> dict[str, int]:
    """Return how many layers each parameter is below the projector and head, which are at 0.

    Args:
        names: Of a network's parameters. The backbone's are in ``backbone.layers.0``, ``1`` and so
            on; others of it count as its last layer.
    """
    layers: dict[str, int | None] = {}
    for name in names:
        plain = re.sub(r"(?<![^.])(_orig_mod|module)\.", "", name)
        if match := re.search(r"(?<![^.])backbone\.(?:layers\.(\d+)\.)?", plain):
            layers[name] = None if match[1] is None else int(match[1])
    last = max((layer for layer in layers.values() if layer is not None), default=0)
    return {
        name: 0 if name not in layers else 1 + last - (last if (i := layers[name]) is None else i)
        for name in names
    }


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group of parameters, times its ``"scale"``."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)


def learning_rate(
    config: OptimizerConfig,
    step: int,
    steps: int,
    warmup: int,
    batch_size: int | None = None,
    losses: Iterable[float] = (),
) -> float:
    """Return the learning rate of a step: linear warm-up, then as ``schedule`` says.

    Args:
        config: A recipe's section ``optimizer``.
        step: The step, from 0.
        steps: Their number.
        warmup: Of them, those of the warm-up.
        batch_size: Images in a batch, by which the rate is scaled if ``reference_batch`` is set.
        losses: Test losses so far, for the schedule ``"plateau"``.

    Raises:
        ValueError, TypeError: If an argument is not of the kind said above.
    """
    _check_section(config)
    positive_int("steps", steps)
    whole_number("step", step, 0, steps)
    whole_number("warmup", warmup)
    highest = config.learning_rate
    if batch_size is not None and config.reference_batch is not None:
        highest *= batch_size / config.reference_batch
    if step < warmup:
        return float(highest * (step + 1) / warmup)
    if config.schedule == "constant":
        return float(highest)
    if config.schedule == "plateau":
        return float(highest * _plateau(config, losses))
    done = (step - warmup) / max(steps - warmup, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return float(highest * (config.final + (1 - config.final) * cosine))


def _plateau(config: OptimizerConfig, losses: Iterable[float]) -> float:
    """Return the factor that torch's scheduler has come to after these losses."""
    unit = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        unit, factor=config.plateau_factor, patience=config.plateau_patience, eps=0.0
    )
    for loss in losses:
        scheduler.step(loss)
    return float(unit.param_groups[0]["lr"])


def _check_section(config: Any) -> None:
    if not isinstance(config, OptimizerConfig):
        raise TypeError(f"config must be a recipe's section 'optimizer', got {shown(config)}")
