"""Large graphs kept on disk: made once, read from then on."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fovigraph._cache import VARIABLE, cache_folder

log = logging.getLogger(__name__)

MOST = 1 << 30
"""Bytes of graphs that are kept; those not used for longest go first."""

Geometry = dict[str, Tensor]


def stored(
    points: list[Tensor | None],
    about: tuple[object, ...],
    worthwhile: bool,
    make: Callable[[], Geometry],
    check: Callable[[Geometry], None],
) -> Geometry:
    """Return what ``make`` makes, from disk if it was made before.

    Files are named by all that their content depends on: the points, what is done with them and the
    code that does it. They appear at once, so processes can share them. Where they cannot be
    written or read, the graph is made, which is said once.

    Args:
        points: Coordinates and masks that the graph is made of.
        about: Everything else that it depends on.
        worthwhile: Whether making them takes longer than reading them.
        make: Makes the tensors of the graph.
        check: Raises ``ValueError`` if tensors that were read are not those of such a graph.
    """
    folder = cache_folder()
    if folder is None or not worthwhile:
        return make()
    path = folder / "graphs" / f"{_name(points, about)}.safetensors"
    try:
        found = _read(path, check)
        if found is not None:
            return found
    except (OSError, ValueError, SafetensorError, KeyError) as error:
        _say(f"the cached graph {path} cannot be read, and is made again: {error}")
    made = make()
    try:
        _write(path, made)
    except (OSError, SafetensorError) as error:
        _say(f"graphs cannot be kept in {path.parent} ({error}); {VARIABLE} names another folder")
    return made


def _name(points: list[Tensor | None], about: tuple[object, ...]) -> str:
    name = hashlib.sha256(f"{_code()} {about}".encode())
    for some in points:
        if some is not None:
            name.update(f"{some.dtype}{tuple(some.shape)}".encode())
            name.update(some.contiguous().numpy().data)
    return name.hexdigest()[:40]


@cache
def _code() -> str:
    """The code that makes graphs."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


def _read(path: Path, check: Callable[[Geometry], None]) -> Geometry | None:
    if not path.exists():
        return None
    found = load_file(path)
    found["edge_index"] = found["edge_index"].long()
    check(found)
    os.utime(path)
    return found


def _write(path: Path, made: Geometry) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = {name: tensor.contiguous() for name, tensor in made.items()}
    small["edge_index"] = made["edge_index"].to(torch.int32)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        save_file(small, Path(folder) / path.name)
        (Path(folder) / path.name).replace(path)
    _trim(path.parent)


def _trim(folder: Path) -> None:
    files = [(file.stat(), file) for file in folder.glob("*.safetensors")]
    total = sum(about.st_size for about, _ in files)
    for about, file in sorted(files, key=lambda each: each[0].st_mtime):
        if total <= MOST:
            break
        file.unlink(missing_ok=True)
        total -= about.st_size


@cache
def _say(message: str) -> None:
    log.warning(message)
