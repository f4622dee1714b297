"""What lets clients in: a code that counts once, a cookie, and no other site's page."""

from __future__ import annotations

import httpx
import pytest
from serve.running import listening
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from quoth.web.entrance import CookieEntrance
from quoth.web.guard import Guard


@pytest.fixture
def codes() -> list[str]:
    return []


@pytest.fixture
def client(codes: list[str]):
    entrance = CookieEntrance(8123, codes.append)

    async def page(request: Request) -> Response:
        response = PlainTextResponse("in" if entrance.knows(request.headers) else "out")
        if entrance.opens(request.query_params.get("code", "")):
            entrance.let_in(response)
        return response

    async def answer(request: Request) -> Response:
        return PlainTextResponse("answer")

    app = Starlette(routes=[Route("/", page), Route("/api", answer, methods=["GET", "POST"])])
    app.add_middleware(Guard, body=100, seconds=5, entrance=entrance)  # type: ignore[arg-type]
    with listening(app) as (_, one):
        yield one


def test_a_code_counts_once_and_the_next_one_is_told(client: httpx.Client, codes: list[str]) -> None:
    assert client.get("/api").status_code == 401
    assert client.get("/", params={"code": "wrong"}).headers.get("set-cookie") is None
    cookie = client.get("/", params={"code": codes[0]}).headers["set-cookie"].lower()
    assert cookie.startswith("quoth-8123=")
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert client.get("/").text == "in"
    assert client.get("/api").text == "answer"
    client.cookies.clear()
    assert client.get("/", params={"code": codes[0]}).headers.get("set-cookie") is None
    assert client.get("/api").status_code == 401
    assert len(codes) == 2
    assert client.get("/", params={"code": codes[1]}).headers.get("set-cookie")


def test_other_origins_are_refused_on_every_route(client: httpx.Client, codes: list[str]) -> None:
    client.get("/", params={"code": codes[0]})
    own = str(client.base_url).rstrip("/")
    assert client.post("/api", headers={"origin": own}).text == "answer"
    for origin in ("http://evil.example", "null", own.replace("http:", "https:"), own + "0"):
        for method in ("GET", "POST"):
            assert client.request(method, "/api", headers={"origin": origin}).status_code == 403
    assert client.post("/api").status_code == 403, "A post that names no origin comes from no page of ours."


@pytest.mark.parametrize("cookie", ["", "quoth-8123=", "quoth-8123=x", "quoth-8000=x", "quoth-8123=é"])
def test_a_wrong_cookie_does_not_let_in(client: httpx.Client, cookie: str) -> None:
    assert client.get("/api", headers={"cookie": cookie.encode()}).status_code == 401
