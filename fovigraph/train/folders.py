"""Folders of images, with a subfolder for every class or a list of the files and their labels."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from PIL import Image

from fovigraph.train.images import Files, StoredImages
from fovigraph.train.metadata import LISTS, listed_images
from fovigraph.train.source import DataConfig, DataError
from fovigraph.train.splits import TRAIN, Splits, some, split_names, two_or_more, without_test


def open_folder(path: Path, config: DataConfig, multi_label: bool, hold_out: bool) -> Splits:
    """Find the images of a folder, or of the folders of its splits, and their labels.

    Args:
        path: The folder.
        config: The section ``data`` of a recipe.
        multi_label: Whether a list of files with labels says what images show
            (:func:`~fovigraph.train.metadata.listed_images`), not subfolders.
        hold_out: As of :func:`~fovigraph.train.splits.without_test`.
    """
    read = listed_images if multi_label else class_folders
    names = [folder.name for folder in _subfolders(path)]
    if not config.train_split and not config.test_split and TRAIN not in names:
        return without_test(*read(path, None), config, hold_out)
    train, test = split_names(names, config, str(path))
    files, labels, classes = read(path / train, None)
    if test is None:
        return without_test(files, labels, classes, config, hold_out)
    held_files, held_labels, _ = read(path / test, classes)
    return Splits(
        StoredImages(files, torch.from_numpy(labels), config.size),
        StoredImages(held_files, torch.from_numpy(held_labels), config.size),
        classes,
        test,
    )


def _subfolders(path: Path) -> list[Path]:
    """List the folders in a folder, linked ones too, except links to folders that contain it."""
    above = {os.path.realpath(path), *_true_parents(path)}
    try:
        folders = [child for child in path.iterdir() if child.is_dir()]
    except OSError as error:
        _cannot_list(error)
    return sorted(
        child
        for child in folders
        if not child.name.startswith(".") and os.path.realpath(child) not in above
    )


def class_folders(path: Path, classes: list[str] | None) -> tuple[Files, np.ndarray, list[str]]:
    """List the images in the subfolders of a folder, in the order of their names.

    Args:
        path: The folder.
        classes: Names that the subfolders may have; ``None``: any.

    Returns:
        Images, labels and names of the classes.
    """
    files: list[str] = []
    labels: list[int] = []
    found: list[str] = []
    for folder in _subfolders(path):
        if classes is not None and folder.name not in classes:
            raise DataError(f"{folder}: must be named like a class to learn, {some(classes)}")
        inside = _images_under(folder)
        if not inside and classes is None:
            raise DataError(f"{folder}: there are no images in this folder of a class")
        label = len(found) if classes is None else classes.index(folder.name)
        files += [file.removeprefix(f"{path}{os.sep}") for file in inside]
        labels += [label] * len(inside)
        found.append(folder.name)
    if not files:
        if any((path / name).exists() for name in LISTS):
            raise DataError(
                f"{path}: there is no subfolder of images for each class, but a list of files with "
                "labels, which objective.name=multi_label learns from"
            )
        raise DataError(
            f"{path}: there are no images; expected a subfolder of them for each class, "
            f"or parquet files (found {some([child.name for child in path.iterdir()])})"
        )
    classes = two_or_more(found, path) if classes is None else classes
    return Files(path, files), np.array(labels, dtype=np.int64), classes


def _images_under(folder: Path) -> list[str]:
    """List the files at any depth whose suffix is that of an image.

    Links to folders are followed, but no folder is listed twice: links may form loops. A folder
    that is inside and linked to as well is listed by its own path.
    """
    known = Image.registered_extensions()
    listed = _true_parents(folder)
    found: list[str] = []
    ahead = deque([str(folder)])
    while ahead:
        for parent, folders, names in os.walk(ahead.popleft(), onerror=_cannot_list):
            here = os.path.realpath(parent)
            if here in listed:
                folders.clear()
                continue
            listed.add(here)
            inside = (os.path.join(parent, name) for name in sorted(folders))
            ahead.extend(path for path in inside if os.path.islink(path))
            found += [
                os.path.join(parent, name)
                for name in names
                if os.path.splitext(name)[1].lower() in known and not name.startswith(".")
            ]
    return sorted(found)


def _true_parents(folder: Path) -> set[str]:
    """Return the folders that a folder is in, without links."""
    return {str(parent) for parent in Path(os.path.realpath(folder)).parents}


def _cannot_list(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot be listed: {error.strerror}") from error
