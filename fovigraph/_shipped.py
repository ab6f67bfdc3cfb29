"""What comes with the package, by name: configurations and trained networks.

Imports nothing heavy, so that the command line's help can name them at once.
"""

from __future__ import annotations

import re
from pathlib import Path

_HERE = Path(__file__).parent

BUNDLED = _HERE / "pretrained"
"""The trained networks, each a folder."""

_RECIPE = re.compile(r"^(data|augment|objective|optimizer|train):", re.MULTILINE)
"""A section that makes a configuration a recipe."""


def shipped_folder() -> Path:
    """``fovigraph/configs`` in an installed package, ``configs`` beside it in a checkout."""
    installed = _HERE / "configs"
    return installed if installed.is_dir() else _HERE.parent / "configs"


def config_names() -> list[str]:
    """Return the names of the configurations that come with the package."""
    return sorted(path.stem for path in shipped_folder().glob("*.yaml"))


def recipe_names() -> list[str]:
    """Return the names of those that say how to train, too."""
    texts = {
        path.stem: path.read_text(encoding="utf-8") for path in shipped_folder().glob("*.yaml")
    }
    return sorted(name for name, text in texts.items() if _RECIPE.search(text))


def pretrained_names() -> list[str]:
    """Return the names of the trained networks that come with the package."""
    return sorted(path.parent.name for path in BUNDLED.glob("*/model.safetensors"))
