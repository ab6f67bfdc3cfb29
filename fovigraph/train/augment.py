"""Variations of training images, on their device, by kornia.

Random numbers are drawn on the CPU for a whole batch, of which every process takes its own rows:
neither the device nor the number of processes changes what an image looks like.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fovigraph._checks import fraction, one_of, positive_range
from fovigraph._schema import Section

BLUR_REACH = 3.0
"""Standard deviations that a blur's kernel reaches to each side."""


@dataclass(frozen=True)
class AugmentConfig(Section):
    """How training images are varied, on the device.

    Attributes:
        when: ``"before"`` foveation (an image is varied once, whichever way it is looked at),
            ``"each"`` (before, the whole image anew for every fixation) or ``"after"`` (every view
            is varied by itself; no blur).
        flip: Probability of a mirror image, the same for all fixations of an image.
        jitter: Probability that colours are changed.
        brightness, contrast, saturation: Factors are drawn from 1 ± this.
        hue: Turns of the colour circle are drawn from ± this.
        grey: Probability that colour is taken away.
        blur: Probability of a Gaussian blur.
        blur_sigma: Its smallest and largest standard deviation, pixels.
    """

    SECTION = "augment"

    when: str = "before"
    flip: float = 0.0
    jitter: float = 0.0
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grey: float = 0.0
    blur: float = 0.0
    blur_sigma: Sequence[float] = (0.1, 2.0)

    def check(self) -> None:
        one_of("augment.when", self.when, ("before", "each", "after"))
        for name in ("flip", "jitter", "brightness", "contrast", "saturation", "grey", "blur"):
            fraction(f"augment.{name}", getattr(self, name))
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"augment.hue must be from 0 to 0.5, got {self.hue}")
        positive_range("augment.blur_sigma", self.blur_sigma)
        if self.when == "after" and self.blur:
            raise ValueError(
                "augment.when must be 'before' or 'each' for blur, which needs an image, got "
                "'after'"
            )


class Variation(NamedTuple):
    """How each of B images, or views, is varied; every entry ``[B]``.

    Attributes:
        flip, jitter, grey, blur: Whether it is.
        brightness, contrast, saturation: Factors.
        hue: Turn of the colour circle, in turns.
        sigma: Standard deviation of the blur, pixels.
    """

    flip: Tensor
    jitter: Tensor
    grey: Tensor
    blur: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    sigma: Tensor

    def pick(self, rows: Tensor) -> Variation:
        """Return those of some rows of the batch, ``[b]``."""
        return Variation._make(entry[rows] for entry in self)


class Augment:
    """Draws variations, and varies images by them.

    Args:
        config: A recipe's section ``augment``.
    """

    def __init__(self, config: AugmentConfig):
        self.config = config
        self.idle = not (config.flip or config.jitter or config.grey or config.blur)

    def draw(self, batch: int, generator: torch.Generator, views: int = 1) -> Variation:
        """Draw the variations of ``batch`` images from random numbers on the CPU.

        Args:
            batch: Number of images.
            generator: Source of the random numbers.
            views: Of each image, which are varied by themselves but flipped together; the result
                is of ``batch · views``.
        """
        config = self.config
        drawn = torch.rand(9, batch * views, generator=generator)
        drawn[0] = drawn[0, ::views].repeat_interleave(views)
        chosen = [
            drawn[i] < getattr(config, name)
            for i, name in enumerate(("flip", "jitter", "grey", "blur"))
        ]
        factors = [
            1 + getattr(config, name) * (2 * drawn[4 + i] - 1)
            for i, name in enumerate(("brightness", "contrast", "saturation"))
        ]
        low, high = config.blur_sigma
        hue, sigma = config.hue * (2 * drawn[7] - 1), low + (high - low) * drawn[8]
        return Variation._make([*chosen, *factors, hue, sigma])

    def images(self, images: Tensor, how: Variation) -> Tensor:
        """Return varied images.

        Args:
            images: ``[B, 3, H, W]``, floating point in [0, 1].
            how: Their variations.

        Returns:
            ``[B, 3, H, W]``, in [0, 1]; the images themselves if nothing ever varies.
        """
        if self.idle:
            return images
        # Imported here, as kornia takes a second and only training needs it.
        from kornia.color import rgb_to_grayscale
        from kornia.filters import gaussian_blur2d

        images = self.flipped(images, how.flip)
        if len(rows := _chosen(how.jitter)):
            images[rows] = _jitter(images[rows], how.pick(rows))
        if len(rows := _chosen(how.grey)):
            images[rows] = rgb_to_grayscale(images[rows]).expand(-1, 3, -1, -1)
        if len(rows := _chosen(how.blur)):
            sigma = how.sigma[rows].to(images)
            reach = math.ceil(BLUR_REACH * self.config.blur_sigma[1])
            reach = min(reach, *(side - 1 for side in images.shape[-2:]))  # what reflection allows
            sigmas = torch.stack((sigma, sigma), dim=1)
            images[rows] = gaussian_blur2d(images[rows], 2 * reach + 1, sigmas)
        return images

    @staticmethod
    def flipped(images: Tensor, which: Tensor) -> Tensor:
        """Return a copy of images ``[B, 3, H, W]`` of which some, ``[B]``, are mirrored."""
        images = images.clone()
        if len(rows := _chosen(which)):
            images[rows] = images[rows].flip(-1)
        return images

    def samples(self, samples: Tensor, how: Variation) -> Tensor:
        """Return samples of varied colours: :meth:`images` for what a retina saw of images.

        Args:
            samples: ``[B, F, N, 3]``, floating point in [0, 1].
            how: Variations of the ``B · F`` views, without blurs; flips are left out.
        """
        how = how._replace(flip=torch.zeros_like(how.flip))
        views = samples.flatten(0, 1).transpose(1, 2).unsqueeze(-1)  # [B · F, 3, N, 1]
        return self.images(views, how).squeeze(-1).transpose(1, 2).reshape_as(samples)


def _chosen(which: Tensor) -> Tensor:
    """Return the rows that are chosen, on the CPU, where indexing waits for nothing."""
    return which.nonzero()[:, 0]


def _jitter(images: Tensor, how: Variation) -> Tensor:
    from kornia import enhance

    factors = (how.brightness, how.contrast, how.saturation, 2 * torch.pi * how.hue)
    brightness, contrast, saturation, hue = (factor.to(images) for factor in factors)
    images = enhance.adjust_brightness_accumulative(images, brightness)
    images = enhance.adjust_contrast_with_mean_subtraction(images, contrast)
    images = enhance.adjust_saturation_with_gray_subtraction(images, saturation)
    return enhance.adjust_hue(images, hue).clamp(0, 1)
