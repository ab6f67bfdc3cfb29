"""The command ``fovigraph``.

A wrong argument or file ends it with one line on standard error and exit status 2; so does an
output that cannot be written. Ctrl-C ends it with one line and exit status 130.
"""

from fovigraph.cli.kinds import KINDS
from fovigraph.cli.main import main

__all__ = ["KINDS", "main"]
