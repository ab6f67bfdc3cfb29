"""How many images a network needs at a time, so that batch norms have values to normalise by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fovigraph.models import FoviNet
from fovigraph.models.evaluating import evaluating
from fovigraph.nn import BatchNorm
from fovigraph.train.recipe import Recipe

KINDS = (BatchNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def fewest_images(recipe: Recipe, net: FoviNet, processes: int) -> int:
    """Return how many images a process must have at a time.

    Args:
        recipe: The whole recipe.
        net: Its network.
        processes: Number of processes, which share every batch.

    Raises:
        ValueError: If the recipe gives it fewer.
    """
    train, several = recipe.train, processes > 1
    images = train.batch_size // (processes * train.accumulate)
    fewest = 1 if recipe.objective.supervised or several else 2
    for name, values in values_of_an_image(net, recipe.data.size).items():
        frozen = any(f"{name}.".startswith(f"{frozen}.") for frozen in train.freeze)
        if frozen and train.frozen_statistics == "kept":
            continue  # stays in evaluation mode
        if several and isinstance(net.get_submodule(name), (BatchNorm, nn.SyncBatchNorm)):
            continue  # normalises by the images of all processes
        if values * images == 1:
            section = name.partition(".")[0]
            raise ValueError(
                f"train.batch_size={train.batch_size}, train.accumulate={train.accumulate} "
                f"and fixation.count={recipe.fixation.count} give the batch norm {name!r} "
                "one value a channel, by which nothing can be normalised: raise the first or "
                f"the last, lower train.accumulate, or choose another {section}.norm"
            )
        fewest = max(fewest, 2 if values == 1 else 1)
    return fewest


@torch.no_grad()
def values_of_an_image(net: FoviNet, size: int) -> dict[str, int]:
    """Return how many values a channel every batch norm gets of one image, by the norm's name.

    At all of its fixations, as in training; the network stays as it is.

    Args:
        net: The network: what has ``views`` and ``see``.
        size: Height and width of the image, pixels.
    """
    values: dict[str, int] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
            count = inputs[0].numel() // norm.num_features
            values[name] = min(count, values.get(name, count))

        return hook

    handles = [
        module.register_forward_pre_hook(note(name))
        for name, module in net.named_modules()
        if isinstance(module, KINDS)
    ]
    image = torch.zeros(1, 3, size, size)
    views = net.views(image, generator=torch.Generator().manual_seed(0))
    try:
        with evaluating(net):
            net.see(image, views)
    finally:
        for handle in handles:
            handle.remove()
    return values
