"""The processes of a run: started by Lightning Fabric, each with its device."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.precision.amp import MixedPrecision
from lightning.fabric.strategies.ddp import DDPStrategy
from torch import Tensor

from fovigraph.config import to_dict
from fovigraph.train.checkpoint import CheckpointError
from fovigraph.train.lock import FolderLock
from fovigraph.train.metrics import make_loggers
from fovigraph.train.recipe import Recipe


class Processes:
    """Starts the processes of a run, and combines their values.

    Args:
        recipe: The whole recipe.
        folder: Where loggers write to.

    Attributes:
        fabric: Lightning's Fabric, which moves tensors, wraps modules and runs backward passes.

    Raises:
        ValueError: If there is no such accelerator here, or not for this precision.
    """

    def __init__(self, recipe: Recipe, folder: Path):
        train = recipe.train
        half = train.precision == "16-mixed"
        if train.accelerator != "cpu" and torch.cuda.is_available():
            if train.devices > torch.cuda.device_count():
                raise ValueError(
                    f"train.devices must be at most {torch.cuda.device_count()}, the GPUs there "
                    f"are here, got {train.devices}"
                )
        elif half or train.accelerator == "cuda":
            name = "precision" if half else "accelerator"
            raise ValueError(
                f"train.{name}={getattr(train, name)} needs a CUDA device, and none is here"
            )
        # A scaler's state belongs to checkpoints, and only the plugin gives it away.
        self._scaled = MixedPrecision("16-mixed", "cuda") if half else None
        # Geometry does not change and norms are synchronised: no buffers to hand round.
        together = DDPStrategy(broadcast_buffers=False)
        self.fabric = Fabric(
            accelerator=train.accelerator,
            devices=train.devices,
            num_nodes=train.nodes,
            strategy=together if train.devices * train.nodes > 1 else "auto",
            precision=None if half else cast(Any, train.precision),
            plugins=[self._scaled] if self._scaled else None,
            loggers=make_loggers(train.log, folder, to_dict(recipe)),
        )
        self.fabric.launch()

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over processes of ``values``, which each has."""
        if self.fabric.world_size == 1:
            return values
        total = self.fabric.all_reduce(self.fabric.to_device(values), reduce_op="sum")
        assert isinstance(total, Tensor)
        return total.cpu()

    def gather(self, values: Tensor) -> Tensor:
        """Return the ``values`` of every process, ``[processes, *]``."""
        if self.fabric.world_size == 1:
            return values[None]
        every = self.fabric.all_gather(self.fabric.to_device(values))
        assert isinstance(every, Tensor)
        return every.cpu()

    def gather_rows(self, rows: Tensor) -> Tensor:
        """Return the rows of every process, one process's after another's, ``[rows, *]``."""
        counts = self.gather(torch.tensor(len(rows))).tolist()
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        every = zip(self.gather(padded), counts, strict=True)
        return torch.cat([each[:count] for each, count in every])

    def share(self, every: Tensor) -> Tensor:
        """Return a process's own part of what :meth:`gather` gave, in this run or an earlier one.

        If there were more or fewer processes then, the first has the sum and the others zeros.
        """
        if len(every) == self.fabric.world_size:
            return every[self.fabric.global_rank]
        return every.sum(0) * self.fabric.is_global_zero

    def lock(self, folder: Path) -> FolderLock:
        """Lock the folder of the run, in the process that writes to it.

        Raises:
            CheckpointError: In every process, if another run holds it.
            OSError: If the folder cannot be written to.
        """
        lock, refusal = FolderLock(folder), None
        if self.fabric.is_global_zero:
            try:
                lock.acquire()
            except (CheckpointError, OSError) as error:
                refusal = error
        if self.any(refusal is not None):
            raise refusal or CheckpointError(f"{folder} cannot be locked")
        return lock

    def any(self, flag: bool) -> bool:
        """Return whether a flag is set in any process, so that all do the same."""
        return bool(self.sum(torch.tensor(float(flag))))

    def state_dict(self) -> dict[str, Any]:
        """Return what belongs to a checkpoint: the state of a gradient scaler."""
        return {} if self._scaled is None else self._scaled.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of a checkpoint."""
        if self._scaled is not None:
            self._scaled.load_state_dict(state)
