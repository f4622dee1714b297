"""What stands before every request: its size and time, its host, and what lets a client in."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Collection
from typing import Protocol

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quoth.web.errors import error_body


class Guard:
    """ASGI middleware that refuses what is too large or too slow, comes under a foreign name, or is not let in.

    A Host header has to be an address, `localhost` or one of `hosts`: else any page in a browser could reach a server
    on the same machine by a name that it lets point here. Browsers always send one; HTTP/1.0 does without.

    Attributes:
        body: how many bytes a request may have.
        seconds: how long they may take to come.
        entrance: what lets clients in; without one, everybody whose request comes under the right name.
    """

    def __init__(
        self, app: ASGIApp, *, body: int, seconds: float, hosts: Collection[str] = (), entrance: Entrance | None = None
    ) -> None:
        self.app, self.body, self.seconds, self.entrance = app, body, seconds, entrance
        self.hosts = {"localhost", *(host.lower().rstrip(".") for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if refusal := self._refusal(scope, headers):
            await refusal(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # The server that runs this leaves the body out.
            scope = {**scope, "method": "GET"}
        body = _Body(receive, self.body, self.seconds)

        async def tell(message: Message) -> None:
            # Whatever the application makes of a request that breaks off, it is not what is said.
            if not body.refusal:
                await send(message)

        await self.app(scope, body.receive, tell)
        if body.refusal:
            await body.refusal(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        if not self._is_ours(headers.get("host", "localhost")):
            return refused(403, "This server does not answer to that host name; --allow-host would let it.")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.body:
            return refused(413, f"A request may have {self.body:,} bytes.")
        if self.entrance is None or scope["path"].startswith("/static/"):
            return None
        return self.entrance.refusal(scope, headers)

    def _is_ours(self, host: str) -> bool:
        name = host.rpartition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
        if name.lower().rstrip(".") in self.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


class Entrance(Protocol):
    """What lets clients in."""

    def refusal(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        """Return a response to a client that is not let in, or None."""
        ...


class _Body:
    """The body of a request as it comes, up to the size and time that it may take."""

    def __init__(self, receive: Receive, size: int, seconds: float) -> None:
        self._receive, self._size, self._seconds = receive, size, seconds
        self._came, self._complete, self._end = 0, False, time.monotonic() + seconds
        self.refusal: JSONResponse | None = None

    async def receive(self) -> Message:
        """Return the next part; where it is refused, the application sees a client that has gone."""
        if self._complete:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, self._end - time.monotonic()))
        except TimeoutError:
            self.refusal = refused(408, f"The request did not come within {self._seconds:g} seconds.")
            return {"type": "http.disconnect"}
        self._came += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._came > self._size:
            self.refusal = refused(413, f"A request may have {self._size:,} bytes.")
            return {"type": "http.disconnect"}
        return message


def refused(status: int, message: str, code: str | None = None) -> JSONResponse:
    """Make a response that says why a request is refused."""
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse(error_body(status, message, code), status, headers)
