"""How many trials: a few with fixed seeds, or as many as FOVIGRAPH_FUZZ says, drawn anew."""

import os
from collections import Counter

from hypothesis import HealthCheck, settings

TRIALS = int(os.environ.get("FOVIGRAPH_FUZZ", "0"))
"""Trials of all tests together; 0: the few that run with every test."""

SHARES = {"calls": 0.6, "configurations": 0.25, "images": 0.1, "weights": 0.05}
"""Of the trials, by test file."""

FEW = {"calls": 600, "configurations": 150, "images": 100, "weights": 25}

OUTCOMES: Counter[str] = Counter()
"""What came of the trials so far."""


def trials(kind):
    """Settings of a test of random input, with this kind's share of the trials."""
    count = max(1, round(TRIALS * SHARES[kind])) if TRIALS else FEW[kind]
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=not TRIALS,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
