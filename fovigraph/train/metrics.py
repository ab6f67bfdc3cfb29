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
        step, epoch: Steps and whole epochs that the run has behind it: rows of later ones, which it
            will write again, are dropped.
    """

    def __init__(self, path: Path, columns: Sequence[str], step: int, epoch: int):
        self.path, self.columns = path, ["step", *columns]
        kept: list[dict[str, str]] = []
        if step and path.exists():
            with path.open(newline="", encoding="utf-8", errors="replace") as file:
                rows = list(csv.DictReader(line.replace("\0", "") for line in file))
            kept = [row for row in rows if self._is_of(row, step, epoch)]
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)
        partial.replace(path)

    def _is_of(self, row: Mapping[str, str | None], step: int, epoch: int) -> bool:
        """Return whether a row is complete, and of a run that came no further."""
        try:
            # A row that was being written when the run was killed has no last column.
            complete = row[self.columns[-1]] is not None
            return complete and int(row["step"] or "") <= step and int(row["epoch"] or "") <= epoch
        except (KeyError, ValueError):
            return False

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
