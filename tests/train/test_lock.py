"""The lock on a run's folder: one holder, and none once it is gone."""

import errno
import logging
import os
import signal
import subprocess
import sys

import pytest

from fovigraph.train import lock
from fovigraph.train.checkpoint import CheckpointError
from fovigraph.train.lock import FolderLock


def held(folder):
    locked = FolderLock(folder)
    locked.acquire()
    return locked


def test_one_at_a_time_may_hold_it(tmp_path):
    first = held(tmp_path / "run")
    with pytest.raises(CheckpointError, match=rf"another run .*/run \(process {os.getpid()} on"):
        held(tmp_path / "run")
    other = held(tmp_path / "other")
    first.release()
    first.release()
    held(tmp_path / "run").release()
    other.release()


def test_it_is_released_with_its_owner(tmp_path):
    locked = held(tmp_path)
    del locked
    held(tmp_path).release()


HOLD = """
import os, sys, time
from pathlib import Path
from fovigraph.train.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
lock.acquire()
if os.fork() == 0:  # as processes that load data are
    print("forked", os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_run_does_not_leave_it_behind_though_its_children_live_on(tmp_path):
    argv = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline().split()[1])
        try:
            with pytest.raises(CheckpointError, match=f"process {process.pid} on"):
                held(tmp_path)
            process.kill()
            process.wait()
            held(tmp_path).release()
        finally:
            os.kill(child, signal.SIGKILL)


def test_where_files_cannot_be_locked_that_is_logged(tmp_path, monkeypatch, caplog):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", unsupported)
    with caplog.at_level(logging.WARNING, logger="fovigraph"):
        held(tmp_path).release()
    assert "No locks available" in caplog.text


def test_systems_without_such_locks_do_without(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "fcntl", None)
    first, second = held(tmp_path), held(tmp_path)
    first.release()
    second.release()


def test_a_folder_that_cannot_be_written_is_the_systems_error(tmp_path):
    (tmp_path / "file").write_text("keep me")
    with pytest.raises(OSError, match="file"):
        held(tmp_path / "file")
