"""The classes of the data and those of the network: one set of names, in one order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import NamedTuple

import torch
from torch import Tensor

from fovigraph.models import Calibration
from fovigraph.train.recipe import Recipe
from fovigraph.train.source import DataError

SHOWN = 10
"""Number of names that a message lists."""


class Classes(NamedTuple):
    """The classes that a network distinguishes.

    Attributes:
        names: Names of its classes, in the order of its logits.
        order: The network's class of each of the data's labels; ``None``: they are the same.
        note: A line that says where the classes come from.
    """

    names: list[str]
    order: Tensor | None
    note: str


def match_classes(
    recipe: Recipe, found: Sequence[str], start: Sequence[str] | None = None
) -> Classes:
    """Bring the classes of a recipe and those of its data together.

    Names that are those of the data in another order keep their order. Other names, or another
    number, are the data's if ``data.set_classes``.

    Args:
        recipe: The whole recipe.
        found: Names of the data's classes, which its labels count from 0.
        start: Names of the classes of the network to start from, which has an order already.

    Raises:
        DataError: If the recipe's are not the data's and must be.
    """
    head, source = recipe.head, recipe.data.source
    names, must = head.class_names, not recipe.data.set_classes
    several = ", of which an image may have several," if recipe.objective.multi_label else ""
    note = f"{len(found)} classes{several} of {source}: {listed(found)}"
    if len(found) != head.num_classes:
        if must:
            raise DataError(
                f"head.num_classes must be {len(found)}, the number of classes in {source!r}, "
                f"got {head.num_classes}"
            )
        note += f" (the configuration had {head.num_classes})"
    elif names is not None and set(names) != set(found):
        if must:
            raise DataError(
                f"head.class_names must be the names of the classes in {source!r}, "
                f"{listed(found)}, got {listed(names)}"
            )
        note += f" (the configuration had {listed(names)})"
    for known in (names, start):
        if known is not None and sorted(known) == sorted(found):
            where = {name: i for i, name in enumerate(known)}
            order = [where[name] for name in found]
            if order == list(range(len(order))):
                break
            return Classes(list(known), torch.tensor(order), note)
    return Classes(list(found), None, note)


def with_classes(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """Return a recipe whose network has so many classes, of these names, and is uncalibrated.

    Whether an image may have several of them follows from the objective.
    """
    head = {"num_classes": len(names), "class_names": list(names), **asdict(Calibration())}
    head["multi_label"] = recipe.objective.multi_label
    return replace(recipe, head=replace(recipe.head, **head))


def listed(names: Sequence[str]) -> str:
    """Return names in one line."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
