"""Ctrl-C on the command line: one line and exit status 130, at any moment.

The imports take seconds. While they run there is nothing to clean up, and an exception could be
swallowed or turned into another by whatever is being imported; so the process ends on the spot.
Imported as a library, fovigraph leaves Ctrl-C alone.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # not typing's, which would be the first of the imports that take time
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

INTERRUPTED = "fovigraph: interrupted"

STATUS = 130
"""As shells report a process that Ctrl-C ended."""


def set_handler(handler: Callable[[int, FrameType | None], Any] | signal.Handlers) -> None:
    """Set what Ctrl-C does, unless the process was started to ignore it (as by ``nohup``)."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)


class Interrupt:
    """A handler of signals that raises KeyboardInterrupt, and remembers it.

    Libraries make other exceptions of it: OmegaConf, say, in the code that cleans up after it.

    Attributes:
        came: Whether one came.
    """

    def __init__(self) -> None:
        self.came = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        raise KeyboardInterrupt


def exit_at_once(number: int, frame: FrameType | None) -> None:
    """End the process, with a line on standard error. A handler of signals."""
    try:
        os.write(2, f"{INTERRUPTED}\n".encode())
    finally:
        os._exit(STATUS)


def _is_command_line() -> bool:
    """Whether this process is the command ``fovigraph``, or ``python -m fovigraph``."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        return False  # a worker, which has the arguments of the process that it works for
    if sys.argv[:1] == ["-m"]:  # for as long as Python looks for the module
        words = " ".join(sys.orig_argv).replace("-m fovigraph", "-mfovigraph")
        return "-mfovigraph" in words.split()
    return bool(sys.argv) and os.path.splitext(os.path.basename(sys.argv[0]))[0] == "fovigraph"


if _is_command_line():
    set_handler(exit_at_once)
