"""The section ``data`` of a recipe, and a check that its source may exist."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fovigraph._checks import nearest, positive_int
from fovigraph._names import HUB_ID
from fovigraph._schema import Section

BUILT_IN = ("digits",)
"""Sources that need no files."""


@dataclass(frozen=True)
class DataConfig(Section):
    """The training data of a recipe.

    Attributes:
        source: Must be given: ``"digits"`` (handwritten digits in cluttered scenes, which come with
            scikit-learn); a folder with a subfolder of images for every class (or with ``train/``
            and ``test/`` or ``val/`` that have them); a parquet file, or a folder of them
            (``train*.parquet``, ``test*.parquet``); or the id of a dataset on the Hugging Face
            Hub. Of the latter two, ``datasets`` keeps a copy in its own cache. For
            ``objective.name=multi_label``, a folder has a list of its images and their labels,
            ``metadata.csv`` or ``metadata.jsonl`` (:mod:`fovigraph.train.metadata`).
        subset: Which configuration of a dataset on the Hub, if it has several.
        size: Images are brought to ``size``² pixels: the shorter side resized, the middle kept.
        train_split: Name of the training split; ``None``: ``"train"``.
        test_split: Name of the split to evaluate on; ``None``: the first there is of ``"test"``,
            ``"validation"`` and ``"val"``.
        image_column: Column of the images; ``None``: the only one that holds images.
        label_column: Column of the labels; ``None``: the only one that holds class labels, or else
            ``"label"``. For ``objective.name=multi_label``, the only one that holds lists of class
            labels, names or integers, or else ``"labels"``.
        holdout: Fraction of the training images to evaluate on if there is no test split.
        streaming: Read the images of parquet files or of the Hub as they come, without an index or
            a copy; order is shuffled in a buffer.
        shuffle_buffer: Images in that buffer.
        workers: Processes that read and decode; 0 reads in the main process. (A stream is read by
            one process with so many threads.)
        memory: A split whose decoded images take up to so many gigabytes is kept in memory.
        strict: Whether a broken image is an error; otherwise it is skipped and counted. (Always an
            error in self-supervised training in several processes.)
        set_classes: Whether the network gets the number and the names of the data's classes where
            the configuration has others; otherwise that is an error. An override of
            ``head.num_classes`` or ``head.class_names`` makes it false.
    """

    SECTION = "data"

    source: str | None = None
    subset: str | None = None
    size: int = 64
    train_split: str | None = None
    test_split: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    holdout: float = 0.1
    streaming: bool = False
    shuffle_buffer: int = 10_000
    workers: int = 2
    memory: float = 1.0
    strict: bool = False
    set_classes: bool = True

    def check(self) -> None:
        if self.source == "":
            raise ValueError("data.source must name a folder, a file or a dataset, got ''")
        positive_int("data.size", self.size)
        positive_int("data.shuffle_buffer", self.shuffle_buffer)
        if not 0 < self.holdout < 1:
            raise ValueError(f"data.holdout must be above 0 and below 1, got {self.holdout}")
        if self.workers < 0:
            raise ValueError(f"data.workers must be at least 0, got {self.workers}")
        if self.memory < 0:
            raise ValueError(f"data.memory must be at least 0, got {self.memory}")


class DataError(ValueError):
    """Data that cannot be used: in one line where, what was found, and what is expected."""


def check_source(config: DataConfig) -> str:
    """Return ``data.source``, if it names a folder or file that exists, or may be on the Hub.

    Args:
        config: The section ``data`` of a recipe.

    Raises:
        DataError: If it does not, or there is none.
    """
    source = config.source
    if source is None:
        raise DataError(
            "data.source must say what to learn from, and the configuration does not: "
            "data.source=FOLDER of images (a subfolder for every class), a parquet file or a "
            "folder of them, owner/name of a dataset on the Hugging Face Hub, or digits"
        )
    path = Path(source).expanduser()
    if source in BUILT_IN or os.path.lexists(path) or HUB_ID.fullmatch(source):
        return source
    hint = nearest(source, BUILT_IN)
    raise DataError(
        f"data.source: there is no file or folder {source!r}, and it is no id of a dataset on the "
        "Hugging Face Hub, owner/name" + (f" (did you mean {hint!r}?)" if hint else "")
    )
