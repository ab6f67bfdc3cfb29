"""matplotlib, also where the environment names a backend that is not there."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def import_matplotlib() -> None:
    """Import matplotlib, which fails where ``MPLBACKEND`` names a backend it does not find.

    A process that a notebook starts inherits such a name. Figures are written to files here, which
    needs no backend; pyplot still draws with the one that is named.

    Raises:
        ImportError: If matplotlib is missing.
    """
    named = os.environ.pop("MPLBACKEND", None) if "matplotlib" not in sys.modules else None
    try:
        import matplotlib
    finally:
        if named is not None:
            os.environ["MPLBACKEND"] = named
    if named:
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = named
