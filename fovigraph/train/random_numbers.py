"""Random numbers that depend on what they are for and on nothing that was drawn before."""

from __future__ import annotations

import numpy as np
import torch

from fovigraph._checks import whole_number


class RandomNumbers:
    """Seeds and generators by purpose.

    Args:
        seed: What all of them follow from.
    """

    DRAWS, DROPOUT, EVALUATION, CALIBRATION = range(4)
    """Purposes."""

    def __init__(self, seed: int):
        self._seed = whole_number("seed", seed)

    def seed(self, *purpose: int) -> int:
        """Return the seed for a purpose, and for a step, a process and so on."""
        high, low = np.random.SeedSequence([self._seed, *purpose]).generate_state(2).tolist()
        return int(high << 31 | low >> 1)

    def generator(self, *purpose: int) -> torch.Generator:
        """Return a generator for a purpose, on the CPU."""
        return torch.Generator().manual_seed(self.seed(*purpose))
