"""Gradients that can be taken once."""

from __future__ import annotations

from typing import Any


def differentiable_once(backward: Any, what: str) -> None:
    """Make a backward operator say that there is no derivative of it.

    Args:
        backward: The operator that computes the gradients, of ``torch.library.custom_op``.
        what: What they are the gradients of.
    """

    def refuse(ctx: Any, *grads: Any) -> None:
        raise NotImplementedError(
            f"{what} has no second derivatives (double backward); set `fused = False` on the "
            "layer, whose plain message passing has them"
        )

    backward.register_autograd(refuse)
