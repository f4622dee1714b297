"""Connections that cannot be used up: their number is bounded, and a request's head has to come in time."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from quoth.web.errors import error_body

# Seconds that answers under way have to end in when the server does.
SHUTDOWN = 5


@dataclass(frozen=True)
class ConnectionLimits:
    """What clients may use of a server at most.

    Attributes:
        body: bytes of a request.
        body_seconds: until they have come, after the request's head.
        head_seconds: until a request's head has come.
        connections: of all clients, at once.
    """

    body: int = 4 * 2**20
    body_seconds: float = 60.0
    head_seconds: float = 20.0
    connections: int = 512


def make_server(app: ASGIApp, limits: ConnectionLimits, **given: Any) -> uvicorn.Server:
    """Make a server of an ASGI application; its `run(sockets=[...])` serves until it is stopped.

    Args:
        app: the application.
        limits: how many connections there may be, and how many seconds a request's head may take.
        given: settings of `uvicorn.Config`.
    """

    class Connection(BoundedConnection):
        most, seconds = limits.connections, limits.head_seconds

    settings: dict[str, Any] = {
        "log_level": "warning",
        "access_log": False,
        "timeout_graceful_shutdown": SHUTDOWN,
    } | given
    return uvicorn.Server(uvicorn.Config(app, http=Connection, **settings))


class BoundedConnection(H11Protocol):
    """An HTTP/1.1 connection that is refused where there are too many, and closed where a head takes too long.

    Attributes:
        most: how many connections there may be at once.
        seconds: from a connection's first moment, or the first byte of a later request, to the end of the head.
    """

    most = 512
    seconds = 20.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Refuse the connection where there are too many."""
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > self.most:
            self.transport.write(_TOO_MANY)
            self.transport.close()
            return
        self._timer = self.loop.call_later(self.seconds, self._give_up)

    def data_received(self, data: bytes) -> None:
        """Take in bytes, and let the timer run while a head is incomplete."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.seconds, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()


def _refusal() -> bytes:
    body = json.dumps(error_body(503, "This server has too many connections; try again in a second.")).encode()
    head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    return f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


_TOO_MANY = _refusal()
