"""Sums over images, and their means."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fovigraph.train.learner import Figures
from fovigraph.train.processes import Processes


class Tally:
    """Sums over images: of the objective, and of each classifier's correct answers.

    Args:
        classifiers: Number of classifiers: 1 (the head) + the probes.
        sums: What was summed before.
    """

    def __init__(self, classifiers: int, sums: Sequence[float] = ()):
        self.sums = torch.zeros(2 + classifiers, dtype=torch.float64)
        if len(sums):
            self.sums += torch.tensor(sums, dtype=torch.float64)

    def add(self, figures: Figures, images: int) -> None:
        """Add the figures of so many images."""
        objective = figures.objective.detach().double().cpu() * images
        correct = figures.correct.double().cpu()
        self.sums += torch.cat((torch.tensor([images]), objective[None], correct))

    def over(self, processes: Processes) -> Tally:
        """Return the sums over all processes."""
        return Tally(len(self.sums) - 2, processes.sum(self.sums).tolist())

    def means(self, prefix: str = "") -> dict[str, float]:
        """Return the means under their :func:`names`."""
        images, *totals = self.sums.tolist()
        means = [total / max(images, 1.0) for total in totals]
        return dict(zip(names(len(means) - 1, prefix), means, strict=True))


def names(classifiers: int, prefix: str = "") -> list[str]:
    """Return what means are called: ``loss``, ``accuracy``, then the probes' accuracies."""
    probes = [f"{prefix}probe{layer}_accuracy" for layer in range(1, classifiers)]
    return [f"{prefix}loss", f"{prefix}accuracy", *probes]
