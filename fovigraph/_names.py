"""What the name of a network stands for, and what an id on the Hugging Face Hub looks like.

Imports nothing heavy, as the command line's parser asks, too.
"""

from __future__ import annotations

import os
import re
from enum import Enum

from fovigraph._shipped import config_names, pretrained_names

HUB_ID = re.compile(r"\w([\w.-]*\w)?/\w([\w.-]*\w)?")
"""The id of a repository on the Hugging Face Hub, owner/name."""


class Named(Enum):
    """What a name stands for."""

    NETWORK = "the folder of a saved network, which may be on the Hub"
    CONFIGURATION = "a configuration, which has no weights"


def what_is_named(name: str, *, configuration_first: bool = False) -> Named | None:
    """Return what the name of a network stands for; ``None``: nothing.

    A trained network that comes with the package goes before a folder, that before a configuration
    that comes with the package, that before a YAML file, and that before an id on the Hub.

    Args:
        name: A name, a path (``~`` is the home folder), or an id.
        configuration_first: Whether configurations and files go before networks and folders.

    Example:
        >>> from fovigraph._names import what_is_named
        >>> what_is_named("fovi_cifar10").name
        'NETWORK'
        >>> what_is_named("fovi_cifar10", configuration_first=True).name
        'CONFIGURATION'
    """
    path = name if "\0" in name else os.path.expanduser(name)
    found = {
        Named.NETWORK: name in pretrained_names() or os.path.isdir(path),
        Named.CONFIGURATION: name in config_names() or os.path.isfile(path),
    }
    for kind in reversed(found) if configuration_first else found:
        if found[kind]:
            return kind
    if name.lower().endswith((".yaml", ".yml")):  # a file that is missing, not an id
        return Named.CONFIGURATION
    return Named.NETWORK if HUB_ID.fullmatch(name) else None
