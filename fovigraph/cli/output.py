"""What the commands print, also where nobody can take it any more."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress


class OutputError(Exception):
    """Standard output is full, or closed."""

    def __init__(self, error: OSError):
        super().__init__(f"cannot write to standard output: {error.strerror or error}")
        self.status = 128 + 13 if error.errno == errno.EPIPE else 2
        """Of a broken pipe, that of a process which SIGPIPE ended."""


def say(text: str = "", end: str = "\n") -> None:
    """Print to standard output, at once.

    Raises:
        OutputError: If it is full or closed. What it has not taken is dropped, so that Python does
            not try again when it exits.
    """
    try:
        if sys.stdout is None:  # it was closed from the start
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        print(text, end=end, flush=True)
    except OSError as error:
        with suppress(AttributeError, OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OutputError(error) from None


def complain(line: str) -> None:
    """Print a line to standard error, if there is one."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(line, file=sys.stderr, flush=True)
