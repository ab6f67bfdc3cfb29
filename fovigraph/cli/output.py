"""Printing to standard output and error, with errors of the streams reported."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import TextIO


def prepare_streams() -> None:
    """Prepare the standard streams of a process.

    Characters that the encoding of standard output lacks are escaped. A stream that was closed
    from the start is opened on the null device, so that no file opened later gets its number.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


class OutputError(Exception):
    """Standard output is full, or closed."""

    def __init__(self, error: OSError):
        super().__init__(f"cannot write to standard output: {error.strerror or error}")
        self.status = 128 + 13 if error.errno == errno.EPIPE else 2
        """The exit status: for a broken pipe, as of a process that SIGPIPE ended."""


def say(text: str = "", end: str = "\n") -> None:
    """Print to standard output, at once.

    Raises:
        OutputError: If it is full or closed.
    """
    try:
        if sys.stdout is None:  # it was closed from the start
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        _print(text, end, sys.stdout)
    except OSError as error:
        raise OutputError(error) from None


def complain(line: str) -> None:
    """Print a line to standard error, unless that is closed."""
    if sys.stderr is not None:
        with suppress(OSError):
            _print(line, "\n", sys.stderr)


def _print(text: str, end: str, stream: TextIO) -> None:
    """Print and flush. Text that cannot be written is dropped, or Python would retry at exit."""
    try:
        print(text, end=end, file=stream, flush=True)
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise
