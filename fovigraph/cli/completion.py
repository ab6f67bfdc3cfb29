"""``fovigraph completion``: code that makes a shell complete commands, options and names."""

from __future__ import annotations

import argparse

from argcomplete.shell_integration import shellcode

from fovigraph.cli.output import say


def completion(args: argparse.Namespace) -> int:
    """Print the code for the shell ``args.shell``."""
    say(shellcode(["fovigraph"], shell=args.shell))
    return 0
