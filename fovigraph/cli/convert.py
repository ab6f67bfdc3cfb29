"""``fovigraph convert``: networks of the fovi package to ours, and back."""

from __future__ import annotations

import argparse

from fovigraph.cli.errors import users_mistake
from fovigraph.cli.output import say
from fovigraph.interop import convert


def convert_command(args: argparse.Namespace) -> int:
    """Convert ``args.source`` to the folder ``args.destination``."""
    with users_mistake(OSError, ValueError, ImportError):
        folder = convert(
            args.source,
            args.destination,
            to_upstream=args.to_upstream,
            revision=args.revision,
        )
    loads = "fovi's own loader" if args.to_upstream else "FoviNet.from_pretrained"
    say(f"{folder}  the network of {args.source}, for {loads}")
    return 0
