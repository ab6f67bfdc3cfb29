"""What commands read and write."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from fovigraph._matplotlib import import_matplotlib
from fovigraph.cli.errors import UserError, users_mistake
from fovigraph.sensing import read_image


def need_matplotlib(extra: str) -> None:
    """Import matplotlib, or say which extra to install."""
    try:
        import_matplotlib()
    except ImportError as error:
        raise UserError(f"pictures need matplotlib: pip install 'fovigraph[{extra}]'") from error


def demo_image() -> Tensor:
    """Return the photograph of a cat that comes with scikit-image, ``[3, H, W]``, uint8."""
    try:
        from skimage import data
    except ImportError as error:
        raise UserError(
            "the demo's photograph comes with scikit-image: pip install 'fovigraph[demo]'"
        ) from error
    return torch.from_numpy(data.chelsea()).permute(2, 0, 1).contiguous()


def image_file(path: str) -> Tensor:
    """Read an image that the user names."""
    with users_mistake(FileNotFoundError, ValueError):
        return read_image(path)


_MADE: list[Path] = []
"""The folders that :func:`make_folder` has made, the outermost first."""


def make_folder(folder: Path) -> None:
    """Make a folder if need be, and check that it can be written to."""
    try:
        new = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        _MADE.extend(reversed(new))
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        other = folder.exists() and not folder.is_dir()
        reason = "it is not a folder" if other else error.strerror
        raise UserError(f"argument --out: cannot write to {str(folder)!r}: {reason}") from error


def remove_empty_folders() -> None:
    """Remove what :func:`make_folder` has made, where nothing was put there."""
    while _MADE:
        with suppress(OSError):  # there is something in it
            _MADE.pop().rmdir()


def make_way(file: Path, suffixes: tuple[str, ...]) -> None:
    """Check that a file can be written, and that its suffix is among those allowed."""
    if file.suffix.lower() not in suffixes:
        raise UserError(f"argument --out: must end in {', '.join(suffixes)}, got {str(file)!r}")
    if file.is_dir():
        raise UserError(f"argument --out: cannot write to {str(file)!r}: it is a folder")
    if file.exists():
        try:
            file.open("ab").close()
        except OSError as error:
            raise UserError(
                f"argument --out: cannot write to {str(file)!r}: {error.strerror}"
            ) from error
    else:
        make_folder(file.parent)
