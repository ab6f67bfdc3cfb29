"""What comes with the package, by name: configurations and trained networks.

Imports nothing heavy, so that the command line's help can name them at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from fovigraph._checks import flag, shown

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


def list_models(pattern: str | Sequence[str] = "*", *, pretrained: bool = False) -> list[str]:
    """Return the names of the networks that come with the package.

    Args:
        pattern: Shell-style wildcards (``"*alex*"``), or a list of such, one of which must match.
        pretrained: Whether to name only those that come with trained weights.

    Raises:
        TypeError: If an argument is of another type.

    Example:
        >>> import fovigraph as fg
        >>> fg.list_models("*alex*")
        ['fovi_alexnet', 'imagenet_alexnet']
        >>> fg.list_models(pretrained=True)
        ['fovi_cifar10']
    """
    patterns = [pattern] if isinstance(pattern, str) else pattern
    if not isinstance(patterns, Sequence) or not all(isinstance(each, str) for each in patterns):
        raise TypeError(f"pattern must be a string or a list of strings, got {shown(pattern)}")
    flag("pretrained", pretrained)
    names = pretrained_names() if pretrained else {*config_names(), *pretrained_names()}
    return sorted(name for name in names if any(fnmatchcase(name, each) for each in patterns))
