"""Runs the application: connections that take too long are closed."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from fovigraph.models import FoviNet
from fovigraph.serve.app import create_app
from fovigraph.serve.limits import Limits


def serve(
    net: FoviNet,
    listening: socket.socket,
    limits: Limits | None = None,
    *,
    name: str = "network",
) -> None:
    """Answer requests until the process is told to stop (Ctrl-C, SIGTERM).

    Args:
        net, limits, name: As for :func:`create_app`.
        listening: The socket to listen at, as ``socket.create_server`` makes it.

    Raises:
        ValueError, TypeError: As :func:`create_app`.
    """
    limits = Limits() if limits is None else limits
    app = create_app(net, limits, name=name)
    config = uvicorn.Config(
        app,
        http=_patience(limits.seconds),
        log_level="warning",
        access_log=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=5,
        limit_concurrency=8 * limits.requests,  # connections, which cost some kilobytes each
        ws="none",
    )
    uvicorn.Server(config).run(sockets=[listening])


def _patience(seconds: float) -> type[H11Protocol]:
    """A protocol that closes connections whose request's head takes longer than this to come."""

    class Patient(H11Protocol):
        deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            answering = self.cycle is not None and not self.cycle.response_complete
            if answering:
                self._stop_waiting()
            elif self.deadline is None:
                self._wait()

        def connection_lost(self, error: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(error)

        def _wait(self) -> None:
            self.deadline = self.loop.call_later(seconds, self._give_up)

        def _stop_waiting(self) -> None:
            if self.deadline is not None:
                self.deadline.cancel()
                self.deadline = None

        def _give_up(self) -> None:
            self.deadline = None
            if self.transport is not None and not self.transport.is_closing():
                self.transport.abort()

    return Patient
