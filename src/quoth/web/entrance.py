"""What lets clients in: a key that programs send, or a code in an address that a browser opens once."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from quoth.web.guard import refused

# What a browser may see without a key: the page that asks for it.
OPEN = ("/", "/health")


class KeyEntrance:
    """Lets in who sends the right key as a bearer token."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def refusal(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        """Return a response to a client that is not let in, or None."""
        given = headers.get("authorization", "").partition(" ")[2]
        if scope["path"] in OPEN or secrets.compare_digest(given.encode(), self._key):
            return None
        return refused(401, "The API key is missing or wrong; send it as a bearer token.", "invalid_api_key")


class CookieEntrance:
    """Lets in the browsers that opened an address with a code, which counts once, and their own pages alone.

    The first page sets a cookie, which scripts cannot read and which other sites' pages do not send. It is named by the
    port, since browsers send cookies to all ports of a host.

    Args:
        port: the server's.
        tell: is called with each code, of which there is a new one as soon as one was used.
    """

    def __init__(self, port: int, tell: Callable[[str], None]) -> None:
        self.cookie, self._tell = f"quoth-{port}", tell
        self._secret = secrets.token_urlsafe(24)
        self._renew()

    def refusal(self, scope: Scope, headers: Headers) -> JSONResponse | None:
        """Return a response to a client that is not let in, or None."""
        own = f"{scope['scheme']}://{headers.get('host', '')}"
        if scope["path"] == "/":
            return None  # The page itself says what to do where there is no cookie.
        if headers.get("origin", own) != own or (scope["method"] == "POST" and "origin" not in headers):
            return refused(403, "Only this server's own page may ask that.")
        if self.knows(headers):
            return None
        return refused(401, "This page was not opened with the address that the terminal shows; open that one.")

    def knows(self, headers: Headers) -> bool:
        """Whether a request comes from a browser that was let in."""
        given = cookie_parser(headers.get("cookie", "")).get(self.cookie, "")
        return secrets.compare_digest(given.encode(), self._secret.encode())

    def opens(self, code: str) -> bool:
        """Whether a code is the one that counts; it counts no more afterwards."""
        if not secrets.compare_digest(code.encode(), self._code.encode()):
            return False
        self._renew()
        return True

    def let_in(self, response: Response) -> None:
        """Make a response let its browser in."""
        response.set_cookie(self.cookie, self._secret, httponly=True, samesite="strict")

    def _renew(self) -> None:
        self._code = secrets.token_urlsafe(16)
        self._tell(self._code)
