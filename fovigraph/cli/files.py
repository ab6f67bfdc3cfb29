"""Files that commands read and write."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from fovigraph._checks import shown
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


def write(file: Path, text: str) -> None:
    """Write text as UTF-8; bytes of file names that are not UTF-8 are escaped."""
    file.write_text(text, encoding="utf-8", errors="backslashreplace")


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
        other = os.path.exists(folder) and not os.path.isdir(folder)
        raise _unwritable(folder, "it is not a folder" if other else error.strerror) from error


def remove_empty_folders() -> None:
    """Remove what :func:`make_folder` has made, where nothing was put there."""
    while _MADE:
        with suppress(OSError):  # there is something in it
            _MADE.pop().rmdir()


def make_way(file: Path, suffixes: tuple[str, ...], option: str = "--out") -> None:
    """Check that a file, which an option names, can be written, and that its suffix is allowed."""
    if file.suffix.lower() not in suffixes:
        raise UserError(
            f"argument {option}: must end in {', '.join(suffixes)}, got {shown(str(file))}"
        )
    if os.path.exists(file) and not file.is_file():
        reason = "it is a folder" if file.is_dir() else "it is no regular file"
        raise _unwritable(file, reason, option)
    try:
        if file.is_file():
            file.open("ab").close()
        else:
            make_folder(file.parent)
            with suppress(FileNotFoundError):
                file.lstat()  # raises where no file can have such a name
    except OSError as error:
        raise _unwritable(file, error.strerror, option) from error


def _unwritable(path: Path, reason: str | None, option: str = "--out") -> UserError:
    return UserError(f"argument {option}: cannot write to {shown(str(path))}: {reason}")
