"""What stands before every request: its size, its host, its key."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quoth.serve.errors import as_object

# What a browser may see without a key: the page that asks for it.
OPEN = ("/", "/health")


class Guard:
    """ASGI middleware that refuses what is too large, comes under a foreign name, or has no key.

    A Host header has to be an address, `localhost` or one of `hosts`: else any page in a browser could reach a server
    on the same machine by a name that it lets point here.
    """

    def __init__(self, app: ASGIApp, *, body: int, hosts: Collection[str] = (), key: str | None = None) -> None:
        self.app, self.body, self.key = app, body, key
        self.hosts = {"localhost", *hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if refusal := self._refusal(scope["path"], headers):
            await refusal(scope, receive, send)
            return
        came = 0

        async def measured() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            # Whatever the application makes of a request that breaks off, it is not what is said.
            return message if came <= self.body else {"type": "http.disconnect"}

        async def told(message: Message) -> None:
            if came <= self.body:
                await send(message)

        await self.app(scope, measured, told)
        if came > self.body:
            await _refused(413, f"A request may have {self.body:,} bytes.")(scope, receive, send)

    def _refusal(self, path: str, headers: Headers) -> JSONResponse | None:
        if not self._is_ours(headers.get("host", "")):
            return _refused(403, "This server does not answer to that host name; --allow-host would let it.")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.body:
            return _refused(413, f"A request may have {self.body:,} bytes.")
        if self.key is None or path in OPEN or path.startswith("/static/"):
            return None
        given = headers.get("authorization", "").partition(" ")[2]
        if secrets.compare_digest(given.encode(), self.key.encode()):
            return None
        return _refused(401, "The API key is missing or wrong; send it as a bearer token.", "invalid_api_key")

    def _is_ours(self, host: str) -> bool:
        name = host.rpartition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
        if name.lower() in self.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _refused(status: int, message: str, code: str | None = None) -> JSONResponse:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse(as_object(status, message, code), status, headers)
