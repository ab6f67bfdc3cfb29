"""Running a command line: its command is imported, called, and its errors are reported."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence

from fovigraph._checks import shown
from fovigraph._interrupt import INTERRUPTED, STATUS, Interrupt, exit_at_once, set_handler
from fovigraph.cli.errors import UserError
from fovigraph.cli.output import OutputError, complain, prepare_streams
from fovigraph.cli.parser import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, the program's own if ``None``, and return its exit status.

    Raises:
        TypeError: If ``argv`` is no list of strings.
    """
    program, status, interrupt = argv is None, 2, Interrupt()
    if argv is not None and (isinstance(argv, str) or not all(isinstance(w, str) for w in argv)):
        raise TypeError(f"argv must be a list of strings or None, got {shown(argv)}")
    try:
        if program:
            set_handler(exit_at_once)
            prepare_streams()
        args = parse(argv)
        command = _command(args)
        if program:  # from here on, there may be something to clean up
            set_handler(interrupt)
        status = command(args)
    except SystemExit as done:  # argparse, after --help or --version
        status = int(done.code or 0)
    except (Exception, KeyboardInterrupt) as error:
        if interrupt.came or isinstance(error, KeyboardInterrupt):
            complain(INTERRUPTED)
            status = STATUS
        elif isinstance(error, (UserError, OutputError)):
            complain(f"fovigraph: {error}")
            status = error.status
        else:
            raise
    finally:
        if program:  # a second Ctrl-C must not print a traceback
            set_handler(signal.SIG_IGN)
        if status:
            _leave_no_empty_folders()
    return status


def _leave_no_empty_folders() -> None:
    files = sys.modules.get("fovigraph.cli.files")  # only where something was imported
    if files is not None:
        files.remove_empty_folders()


def _command(args: argparse.Namespace) -> Callable[[argparse.Namespace], int]:
    """Import what a command needs, and nothing else, so that --help does not wait for it."""
    if args.command == "info":
        from fovigraph.cli.info import info

        return info
    if args.command == "convert":
        from fovigraph.cli.convert import convert_command

        return convert_command
    if args.command == "eval":
        from fovigraph.cli.eval import eval_command

        return eval_command
    if args.command == "predict":
        from fovigraph.cli.predict import predict_command

        return predict_command
    if args.command == "serve":
        from fovigraph.cli.serve import serve_command

        return serve_command
    if args.command == "completion":
        from fovigraph.cli.completion import completion

        return completion
    if args.command == "train":
        try:
            from fovigraph.cli.train import train_command
        except ImportError as error:
            raise UserError(
                f"training needs {error.name}: pip install 'fovigraph[train]'"
            ) from error
        return train_command
    from fovigraph.cli.files import need_matplotlib

    need_matplotlib("demo" if args.command == "demo" else "viz")
    if args.command == "explore":
        from fovigraph.cli.explore import explore

        return explore
    if args.command == "eyes":
        from fovigraph.cli.eyes import eyes

        return eyes
    if args.command == "plot":
        from fovigraph.cli.plot import plot

        return plot
    from fovigraph.cli.look import look

    return look
