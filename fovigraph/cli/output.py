"""What the commands print, also where nobody can take it any more."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import TextIO


def prepare_streams() -> None:
    """Make the standard streams of a process fit for whatever is printed.

    What the encoding of standard output lacks is printed in another way. Those that were closed
    from the start lead nowhere: no file that is opened later may take their place.
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
        """Of a broken pipe, that of a process which SIGPIPE ended."""


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
    """Print a line to standard error, if there is one that takes it."""
    if sys.stderr is not None:
        with suppress(OSError):
            _print(line, "\n", sys.stderr)


def _print(text: str, end: str, stream: TextIO) -> None:
    """Print at once. What a stream does not take is dropped, or Python would try again at exit."""
    try:
        print(text, end=end, file=stream, flush=True)
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise
