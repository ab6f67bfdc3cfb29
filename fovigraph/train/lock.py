"""A lock on the folder of a run, so that no second run writes to it."""

from __future__ import annotations

import functools
import logging
import os
import socket
import weakref
from pathlib import Path

from fovigraph.train.checkpoint import CheckpointError

try:
    import fcntl
except ImportError:  # Windows, where runs are not locked
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)


def _release(lock: weakref.ReferenceType[FolderLock]) -> None:
    if (held := lock()) is not None:
        held.release()


class FolderLock:
    """A lock for the process that writes to a run's folder.

    The operating system's (``flock``, on a file in the folder), which a killed process does not
    leave behind. Where there is none (Windows, some network file systems), nothing is locked.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._file = -1

    def acquire(self) -> None:
        """Lock the folder, made if need be, until :meth:`release` or the end of this process.

        Raises:
            CheckpointError: If another run holds the lock.
            OSError: If the folder cannot be written to.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._lock()
        except BaseException:
            self.release()
            raise
        # A forked process, as one that loads data, would hold the lock for as long as it lives.
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=functools.partial(_release, weakref.ref(self)))

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            who = os.pread(self._file, 200, 0).decode(errors="replace").strip()
            raise CheckpointError(
                f"another run is writing to {self.folder}{f' ({who})' if who else ''}: "
                "choose another folder, or wait until that run has ended"
            ) from error
        except OSError as error:
            log.warning("cannot lock %s against other runs: %s", self.folder, error.strerror)
            return
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def release(self) -> None:
        """Let others write to the folder; nothing happens if it is not locked."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def __del__(self) -> None:
        self.release()
