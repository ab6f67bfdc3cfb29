"""Where the figures of a run go: a CSV file, and loggers of Lightning's."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import Logger


class CSVFile:
    """A CSV file with a row for every step that something was measured at.

    A run that is resumed goes on in the same file, after the row of the step it resumes from.

    Args:
        path: The file.
        columns: Its columns, after the first, ``step``.
        step: Rows of later steps are dropped.
    """

    def __init__(self, path: Path, columns: Sequence[str], step: int):
        self.path, self.columns = path, ["step", *columns]
        kept: list[dict[str, str]] = []
        if step and path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                # A row that was being written when the run was killed has no last column.
                rows = [
                    row for row in csv.DictReader(file) if row.get(self.columns[-1]) is not None
                ]
            kept = [row for row in rows if int(row["step"]) <= step]
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)
        partial.replace(path)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Add a row."""
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns).writerow({"step": step, **figures})


def make_loggers(names: Sequence[str], folder: Path, recipe: Mapping[str, Any]) -> list[Logger]:
    """Make Lightning's loggers by their names in a recipe.

    Raises:
        ImportError: If the package of one is not installed.
    """
    loggers: list[Logger] = []
    if "tensorboard" in names:
        from lightning.fabric.loggers.tensorboard import TensorBoardLogger

        loggers.append(TensorBoardLogger(folder, name="tensorboard", version=""))
    if "wandb" in names:
        from lightning.pytorch.loggers import WandbLogger

        loggers.append(WandbLogger(folder.name, save_dir=folder, config=dict(recipe)))
    return loggers
