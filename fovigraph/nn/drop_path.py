"""Stochastic depth: branches of residual blocks that are left out at random."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from fovigraph._checks import fraction


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): zeros a sample's whole features at random.

    In training, every sample's features are zero with probability ``rate`` and otherwise divided by
    ``1 - rate``, so that their mean stays; in evaluation they pass unchanged.

    Args:
        rate: The probability, below 1.

    Raises:
        ValueError, TypeError: If ``rate`` is no such number.
    """

    def __init__(self, rate: float = 0.0):
        super().__init__()
        self.rate = fraction("rate", rate)
        if self.rate == 1:
            raise ValueError("rate must be below 1, got 1")

    def forward(self, x: Float[Tensor, "*batch N C"]) -> Float[Tensor, "*batch N C"]:
        """Map ``[*, N, C]`` to the same shape; without leading dimensions it is one sample."""
        if not self.training or self.rate == 0:
            return x
        keep = x.new_empty(*x.shape[:-2], 1, 1).bernoulli_(1 - self.rate)
        return x * (keep / (1 - self.rate))

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"
