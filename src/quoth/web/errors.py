"""Errors as OpenAI's API gives them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from quoth.system.errors import InputError

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


def error_body(status: int, message: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """The body of an error."""
    kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


async def handle_api_error(request: Request, error: Exception) -> JSONResponse:
    """Respond to an `APIError`."""
    assert isinstance(error, APIError)
    content = error_body(error.status, error.message, error.code, error.param)
    return JSONResponse(content, error.status, error.headers)


async def handle_input_error(request: Request, error: Exception) -> JSONResponse:
    """Respond to a request that an engine does not take."""
    return JSONResponse(error_body(400, str(error)), 400)


async def handle_fault(request: Request, error: Exception) -> JSONResponse:
    """Respond where the server itself has failed; its log describes the fault."""
    return JSONResponse(error_body(500, "The server failed; its log says why."), 500)


async def handle_invalid(request: Request, error: Exception) -> JSONResponse:
    """Respond to a body that is not valid with the first mistake and its place, without repeating what was sent."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    # Between a field and a place in it stand the kinds that were tried.
    place = ".".join(str(part) for n, part in enumerate(first["loc"][1:]) if n == 0 or isinstance(part, int))
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        return JSONResponse(error_body(400, f"The body is no JSON: {message}."), 400)
    if place:
        return JSONResponse(error_body(400, f"{place}: {message}.", param=place), 400)
    said = message if first["type"] == "value_error" else "The body must be a JSON object, sent as application/json"
    return JSONResponse(error_body(400, f"{said}."), 400)


async def handle_http(request: Request, error: Exception) -> JSONResponse:
    """Respond to unknown addresses and methods, which the framework refuses."""
    assert isinstance(error, HTTPException)
    said = str(error.detail).rstrip(".") + "."
    return JSONResponse(error_body(error.status_code, said), error.status_code, error.headers)


def add_error_handlers(app: FastAPI) -> None:
    """Let an application respond to all errors in this form."""
    for kind, handler in (
        (APIError, handle_api_error),
        (InputError, handle_input_error),
        (RequestValidationError, handle_invalid),
        (HTTPException, handle_http),
        (Exception, handle_fault),
    ):
        app.add_exception_handler(kind, handler)
