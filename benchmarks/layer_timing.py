"""Timing one layer, ours, the peer's or dense, in the same way. Runs under either Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from common import seconds_of
from torch import Tensor, nn


@dataclass
class Candidate:
    """A layer to be timed.

    Args:
        layer: Holds the parameters.
        call: What takes the input and gives the output.
        input_shape: Shape of the input without its batch dimension.
        input_gradient: Whether the backward pass goes on to the input: not for a first layer,
            whose input is an image.
    """

    layer: nn.Module
    call: Callable[[Tensor], Tensor]
    input_shape: tuple[int, ...]
    input_gradient: bool

    def seconds(self, batch: int, backward: bool, repeats: int) -> list[float]:
        """Seconds of `repeats` passes: forward without gradients, or forward and backward."""
        device = next(self.layer.parameters()).device
        generator = torch.Generator(device).manual_seed(0)
        x = torch.randn(batch, *self.input_shape, generator=generator, device=device)
        wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
        if not backward:
            with torch.no_grad():
                return seconds_of(lambda: self.call(x), repeats, wait)
        x.requires_grad_(self.input_gradient)
        with torch.no_grad():
            cotangent = torch.randn_like(self.call(x))

        def step() -> None:
            self.layer.zero_grad(set_to_none=True)
            x.grad = None
            self.call(x).backward(cotangent)

        return seconds_of(step, repeats, wait)


class TrainingStep:
    """Steps of SGD on one batch of random images, and answers in between.

    Args:
        net: What is trained.
        logits: Takes images and gives logits.
        images: Number of images.
        size: Pixels along their sides.
    """

    def __init__(
        self, net: nn.Module, logits: Callable[[Tensor], Tensor], images: int, size: int = 256
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        self._net, self._logits = net, logits
        self._images = torch.rand(images, 3, size, size, generator=generator)
        self._labels = torch.randint(10, (images,), generator=generator)
        net.train()
        logits(self._images)  # makes the peer's lazy layers
        self._optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def seconds(self) -> float:
        """Seconds of one step."""
        return seconds_of(self._step, 1)[0]

    @torch.no_grad()
    def forward_seconds(self) -> float:
        """Seconds of one answer in evaluation, without gradients."""
        self._net.eval()
        [seconds] = seconds_of(lambda: self._logits(self._images), 1)
        self._net.train()
        return seconds

    def _step(self) -> None:
        self._optimiser.zero_grad()
        nn.functional.cross_entropy(self._logits(self._images), self._labels).backward()
        self._optimiser.step()


class Inference:
    """Answers to one batch of random images, 256² pixels each, without gradients.

    Args:
        logits: Takes images and gives logits.
        device: Where the images are.
    """

    def __init__(self, logits: Callable[[Tensor], Tensor], device: str) -> None:
        self._logits, self._device = logits, device

    @torch.no_grad()
    def seconds(self, images: int, repeats: int) -> list[float]:
        """Seconds of each of `repeats` answers."""
        batch = torch.rand(images, 3, 256, 256, generator=torch.Generator().manual_seed(0))
        batch = batch.to(self._device)
        wait = torch.cuda.synchronize if self._device == "cuda" else lambda: None
        return seconds_of(lambda: self._logits(batch), repeats, wait)


def versions(*packages: Any) -> dict[str, str]:
    """Versions of the packages, by name."""
    return {package.__name__: str(getattr(package, "__version__", "?")) for package in packages}
