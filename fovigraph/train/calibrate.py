"""The calibration that every trained network gets, from images that it did not learn from."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch
from torch import Tensor
from tqdm import tqdm

from fovigraph.models import Calibration, FoviNet, fit_calibration
from fovigraph.train.batches import Batch
from fovigraph.train.evaluate import fixation_logits, policy_for
from fovigraph.train.images import ImageSplit, ImageStream, LoadedImages

log = logging.getLogger(__name__)

IMAGES = 1000
"""Images, at most, that a calibration is fitted to."""

FIXATIONS = 16
"""Fixations of each image, at most."""

DELAY = 2
"""Seconds after which a bar is shown."""


def calibration_images(split: ImageSplit | ImageStream) -> ImageSplit | ImageStream:
    """Return images evenly spread over a split; a stream as it is, of which the first are taken."""
    if isinstance(split, ImageStream) or len(split) <= IMAGES:
        return split
    chosen = [i * len(split) // IMAGES for i in range(IMAGES)]
    if isinstance(split, LoadedImages):
        broken = {i: split.broken[j] for i, j in enumerate(chosen) if j in split.broken}
        return LoadedImages(split.images[chosen], split.labels[chosen], broken)
    return _Sample(split, chosen)


class _Sample:
    def __init__(self, split: ImageSplit, chosen: list[int]):
        self.split, self.chosen, self.size = split, chosen, split.size

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> tuple[Tensor, int | Tensor]:
        return self.split[self.chosen[index]]


@torch.no_grad()
def calibrate(
    net: FoviNet, batches: Iterable[Batch], generator: torch.Generator, *, progress: bool = False
) -> str:
    """Calibrate a network anew, and return a line that says what was done.

    It is left in evaluation mode. If there are no images, or logits are not finite, it is not
    calibrated, and a warning is logged.

    Args:
        net: The network.
        batches: The images (:func:`calibration_images`).
        generator: Of the places to look at, for a policy that is random in evaluation.
        progress: Whether a bar is shown if it takes long.
    """
    net.calibrate(Calibration())
    net.eval()
    policy, _ = policy_for(net, FIXATIONS)
    device, every, labels = next(net.parameters()).device, [], []
    with tqdm(
        desc="Calibrating", unit=" images", delay=DELAY, leave=False, disable=not progress
    ) as bar:
        seen = 0
        for batch in batches:
            images = batch.images[: IMAGES - seen]
            logits = fixation_logits(net, images.to(device), policy, generator)
            every.append(logits.float().cpu())
            labels.append(batch.labels[: len(images)])
            seen += len(images)
            bar.update(len(images))
            if seen == IMAGES:  # no more of a stream is read
                break
    if not seen or not all(logits.isfinite().all() for logits in every):
        reason = "its logits are not finite" if seen else "no image of the test split can be read"
        log.warning("the network is not calibrated: %s", reason)
        return f"not calibrated, as {reason}"
    own = min(policy_for(net, None)[0].count, policy.count)
    with torch.enable_grad():
        found = fit_calibration(
            torch.cat(every), torch.cat(labels), own, joint=net.config.head.joint
        )
    net.calibrate(found)
    fixations = f"{policy.count} fixation{'s' * (policy.count > 1)}"
    return (
        f"calibrated on {seen} held-out images with {fixations}: "
        f"temperature {found.temperature:.3g}, sharpening {found.sharpening:.3g}"
    )
