"""Where what can be made again is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "FOVIGRAPH_CACHE"


def cache_folder() -> Path:
    """Return the folder of cached files: ``$FOVIGRAPH_CACHE``, or the user's, as the XDG says.

    It need not exist yet.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "fovigraph"
