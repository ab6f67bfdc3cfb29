"""Where what can be made again is kept between runs: compiled kernels and large graphs."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "FOVIGRAPH_CACHE"
OFF = "off"


def cache_folder() -> Path | None:
    """Return the folder of cached files, which need not exist yet; ``None``: nothing is kept.

    It is ``$FOVIGRAPH_CACHE``, where ``off`` means none, or ``fovigraph`` in the user's cache
    (``$XDG_CACHE_HOME`` or ``~/.cache``).
    """
    chosen = os.environ.get(VARIABLE)
    if chosen == OFF:
        return None
    if chosen:
        return Path(chosen).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "fovigraph"
