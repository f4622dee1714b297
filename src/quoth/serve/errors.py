"""Errors as OpenAI's API gives them."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class APIError(Exception):
    """A refusal that a client understands."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.headers = status, message, code, param, headers


def as_object(status: int, message: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """The body of an error."""
    kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


async def tell_refusal(request: Request, error: Exception) -> JSONResponse:
    """For `APIError`."""
    assert isinstance(error, APIError)
    content = as_object(error.status, error.message, error.code, error.param)
    return JSONResponse(content, error.status, error.headers)


async def tell_input(request: Request, error: Exception) -> JSONResponse:
    """For what an engine will not take."""
    return JSONResponse(as_object(400, str(error)), 400)


async def tell_fault(request: Request, error: Exception) -> JSONResponse:
    """For a fault of the server's own, which its log describes."""
    return JSONResponse(as_object(500, "The server failed; its log says why."), 500)


async def tell_invalid(request: Request, error: Exception) -> JSONResponse:
    """For a body that is not as it should be: the first thing wrong, and where. What was sent is not repeated."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    # Between a field and a place in it stand the kinds that were tried.
    place = ".".join(str(part) for n, part in enumerate(first["loc"][1:]) if n == 0 or isinstance(part, int))
    message = str(first["msg"]).removeprefix("Value error, ")
    said = f"{place}: {message}." if place and first["type"] != "json_invalid" else f"The body is no JSON: {message}."
    return JSONResponse(as_object(400, said, param=place or None), 400)


async def tell_http(request: Request, error: Exception) -> JSONResponse:
    """For what the framework refuses: unknown addresses and methods."""
    assert isinstance(error, HTTPException)
    said = str(error.detail).rstrip(".") + "."
    return JSONResponse(as_object(error.status_code, said), error.status_code, error.headers)
