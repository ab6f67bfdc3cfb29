"""The exponential moving average of weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Average:
    """An exponential moving average of a module's ``state_dict``, running statistics included.

    After n steps the decay is ``min(decay, (1 + n) / (10 + n))``, so that the average soon forgets
    the weights that training began with. Entries that are not floating point are the module's own.

    Args:
        module: The module.
        decay: Largest decay, in (0, 1).

    Attributes:
        weights: The average, by the names of the ``state_dict``.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.module, self.decay = module, decay
        self.weights = {name: x.detach().clone() for name, x in module.state_dict().items()}
        self._trained: dict[str, Tensor] | None = None  # while the module has the average

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average by the module's weights, after ``step`` updates before."""
        own = self.module.state_dict()
        floats = [name for name, x in own.items() if x.is_floating_point()]
        mix = get_ema_multi_avg_fn(min(self.decay, (1 + step) / (10 + step)))
        mix([self.weights[name] for name in floats], [own[name] for name in floats], step)
        for name in own.keys() - set(floats):
            self.weights[name].copy_(own[name])

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Load an average that was saved."""
        for name, x in self.weights.items():
            x.copy_(weights[name])

    def apply(self) -> None:
        """Load the average into the module."""
        if self._trained is None:
            self._trained = {name: x.clone() for name, x in self.module.state_dict().items()}
            self.module.load_state_dict(self.weights)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Return a context in which the module has the average."""
        was = self._trained
        self.apply()
        try:
            yield
        finally:
            if was is None and self._trained is not None:
                self.module.load_state_dict(self._trained)
                self._trained = None

    def trained(self) -> dict[str, Tensor]:
        """Return the weights that training goes on from."""
        return dict(self.module.state_dict() if self._trained is None else self._trained)
