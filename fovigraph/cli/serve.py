"""``fovigraph serve``: a small server that classifies images."""

from __future__ import annotations

import argparse
import socket
from importlib.util import find_spec

import torch

from fovigraph.cli.errors import UserError, users_mistake
from fovigraph.cli.networks import (
    build,
    device_of,
    read_config,
    saved_folder,
    warn_of_random_weights,
)
from fovigraph.cli.output import say


def serve_command(args: argparse.Namespace) -> int:
    """Serve the network ``args.model`` until Ctrl-C."""
    missing = [name for name in ("fastapi", "uvicorn", "prometheus_client") if not find_spec(name)]
    if missing:
        raise UserError(f"a server needs {', '.join(missing)}: pip install 'fovigraph[serve]'")
    from fovigraph.serve import Limits, serve

    device = device_of(args.device)
    config, folder = read_config(args.model, args.overrides), saved_folder(args.model)
    with users_mistake(ValueError):
        limits = Limits(
            file_bytes=round(args.max_megabytes * 1e6),
            pixels=round(args.max_megapixels * 1e6),
            requests=args.max_requests,
            batch=args.batch_size,
        )
    with _listening(args.host, args.port) as listening:
        torch.manual_seed(0)
        net = build(config, folder, device)
        warn_of_random_weights(args.model, folder)
        host, port = listening.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        say(f"{args.model} at http://{host}:{port}/ (Ctrl-C stops it)")
        with users_mistake(ValueError):
            serve(net, listening, limits, name=args.model)
    return 0


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot listen at {host}, port {port}: {reason} (--host, --port)"
        ) from error
