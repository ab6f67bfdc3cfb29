"""How large layers may be."""

from __future__ import annotations

import math

MAX_WEIGHTS = 2**31
"""The most numbers of one weight: eight gigabytes in single precision."""


MOST_CHANNELS = 2**20
"""Channels of a layer, and classes: two layers of so many have terabytes of weights."""


def check_weights(**sizes: int) -> None:
    """Say that the product of sizes, by the names of the arguments, is too large for a weight."""
    if math.prod(sizes.values()) > MAX_WEIGHTS:
        raise ValueError(
            f"{' × '.join(sizes)} must be at most {MAX_WEIGHTS:,}, "
            f"got {' × '.join(map(str, sizes.values()))}"
        )
