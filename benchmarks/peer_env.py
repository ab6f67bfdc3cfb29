"""Importing the peer (fovi, the upstream package) in an environment that has it.

Used by the scripts that run under the peer's Python; README.md says how to make that environment.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch


def import_peer(module: str) -> Any:
    """Imports a module of the peer, also where torchvision has no compiled operators.

    The peer imports torchvision, which describes its operators to `torch.library` and fails beside
    a build of torch that it was not compiled for. The peer's layers use none of these operators,
    so their descriptions are skipped while importing.

    Args:
        module: Full name of the module, as in `"fovi.arch.knn"`.

    Returns:
        The imported module.
    """
    register_fake = torch.library.register_fake

    def skip_torchvision(op: Any, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        if str(op).startswith("torchvision::"):
            return lambda function: function
        return register_fake(op, *args, **kwargs)

    warnings.filterwarnings("ignore")
    with mock.patch.object(torch.library, "register_fake", skip_torchvision):
        return importlib.import_module(module)
