"""The section ``fixation`` of a configuration, and the policy that it describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from fovigraph._checks import fraction, positive_float, positive_int, positive_range
from fovigraph._schema import Section
from fovigraph.sensing.fixation import FixationPolicy, fixation_policy

MOST_FIXATIONS = 100_000
"""Largest number of fixations of an image."""


@dataclass(frozen=True)
class FixationConfig(Section):
    """The section ``fixation``: how many fixations, where, and how much of the image each covers.

    Attributes:
        policy: Name of the fixation policy.
        count: Fixations per image.
        eval_count: Fixations per image in evaluation; ``None``: ``count``.
        area: Smallest and largest fraction of the image's area that a fixation covers in training.
        aspect: Smallest and largest ratio of its width to its height in training.
        eval_area: Fraction of the image's area that a fixation covers in evaluation.
        spread: How far from the image's centre a fixation may be, as a fraction of the image.
        center_first: Whether the first fixation is at the centre.
        in_eval: Where to look in evaluation, as :class:`~fovigraph.FixationPolicy` says: in
            ``"fixed"`` places, ``"random"`` ones, or at the ``"center"``.
        fixations: For the policy ``"explicit"``, its ``count`` places (row, column) in [0, 1].
    """

    SECTION = "fixation"

    policy: str = "near_center"
    count: int = 4
    eval_count: int | None = None
    area: Sequence[float] = (1.0, 1.0)
    aspect: Sequence[float] = (1.0, 1.0)
    eval_area: float = 1.0
    spread: float = 0.25
    center_first: bool = False
    in_eval: str = "fixed"
    fixations: Sequence[Sequence[float]] | None = None

    def check(self) -> None:
        positive_int("fixation.count", self.count, MOST_FIXATIONS)
        if self.eval_count is not None:
            positive_int("fixation.eval_count", self.eval_count, MOST_FIXATIONS)
        positive_range("fixation.area", self.area)
        positive_range("fixation.aspect", self.aspect)
        positive_float("fixation.eval_area", self.eval_area)
        fraction("fixation.spread", self.spread)

    @classmethod
    def upgrade(cls, content: Mapping[Any, Any]) -> Mapping[Any, Any]:
        if not isinstance(content.get("random_in_eval"), bool):
            return content
        rest = {key: value for key, value in content.items() if key != "random_in_eval"}
        return {"in_eval": "random" if content["random_in_eval"] else "center", **rest}


def policy_of(config: FixationConfig) -> FixationPolicy:
    """Return the fixation policy that a section describes.

    Raises:
        ValueError, TypeError: If a value is not allowed, or does nothing for that policy.
    """
    options = {each.name: getattr(config, each.name) for each in fields(config)}
    stated = {name: value for name, value in options.items() if value is not None}
    return fixation_policy(stated.pop("policy"), **stated)
