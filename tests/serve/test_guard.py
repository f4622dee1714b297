"""What stands before every request: hosts, keys, origins, sizes."""

from __future__ import annotations

from serve.running import ALPHABET, Running, raw, running, served

from quoth.text.tokenizer import Characters


def test_too_large_a_body(server: Running) -> None:
    whole = server.client.post("/v1/completions", content=b" " * (4 * 2**20 + 1))
    assert whole.status_code == 413
    parts = server.client.post("/v1/completions", content=(b" " * 2**20 for _ in range(6)))
    assert parts.status_code == 413
    assert parts.json()["error"]["message"] == "A request may have 4,194,304 bytes."


def test_a_foreign_host(server: Running) -> None:
    for host, status in (("evil.example", 403), ("localhost:1", 200), ("127.0.0.1", 200), ("[::1]:80", 200), ("", 403)):
        got = server.client.get("/health", headers={"host": host})
        assert got.status_code == status, host
    with running([served("base", Characters(ALPHABET))], hosts=["mine.example"]) as other:
        assert other.client.get("/health", headers={"host": "mine.example"}).status_code == 200


def test_a_key() -> None:
    with running([served("base", Characters(ALPHABET))], key="secret") as other:
        ask = {"prompt": "a", "max_tokens": 1}
        assert other.client.get("/health").status_code == 200
        for given in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "secret"},
            {"authorization": "Bearer é"},
        ):
            encoded = {k: v.encode() for k, v in given.items()}
            got = other.client.post("/v1/completions", json=ask, headers=encoded)  # type: ignore[arg-type]
            assert (got.status_code, got.json()["error"]["code"]) == (401, "invalid_api_key")
        right = {"authorization": "Bearer secret"}
        assert other.client.post("/v1/completions", json=ask, headers=right).status_code == 200
        assert other.client.get("/metrics").status_code == 401


def test_a_body_that_a_browser_may_send_unasked_is_refused(server: Running) -> None:
    """A page elsewhere may post text, or something without a type; JSON it may not."""
    for headers in ({}, {"content-type": "text/plain"}):
        got = server.client.post("/v1/completions", content=b'{"prompt": "a"}', headers=headers)
        assert (got.status_code, "application/json" in got.text) == (400, True)


def test_requests_of_http_1_0(server: Running) -> None:
    body = b'{"prompt": "a", "max_tokens": 3, "stream": true}'
    head = b"POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    got = raw(server, head % len(body) + body, leaves=False)
    assert b" 200 " in got[:20]
    assert got.rstrip().endswith(b"data: [DONE]")
    assert b" 200 " in raw(server, b"GET /health HTTP/1.0\r\n\r\n", leaves=False)[:20]
    assert b" 403 " in raw(server, b"GET /health HTTP/1.0\r\nHost: elsewhere.example\r\n\r\n", leaves=False)[:20]


def test_names_of_hosts_are_compared_without_case() -> None:
    with running([served("base", Characters(ALPHABET))], hosts=["Mine.Example"]) as other:
        for host in ("mine.example", "MINE.example:8000", "mine.example."):
            assert other.client.get("/health", headers={"host": host}).status_code == 200


def test_pages_of_other_origins_only_where_it_was_said(server: Running) -> None:
    asks = {"origin": "https://my.example", "access-control-request-method": "POST"}
    asks["access-control-request-headers"] = "authorization,content-type"
    assert server.client.options("/v1/completions", headers=asks).status_code == 405
    with running([served("base", Characters(ALPHABET))], key="secret", origins=["https://my.example"]) as other:
        allowed = other.client.options("/v1/completions", headers=asks)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == "https://my.example"
        assert "authorization" in allowed.headers["access-control-allow-headers"].lower()
        refused = other.client.post("/v1/completions", json={"prompt": "a"}, headers={"origin": "https://my.example"})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://my.example"
        asks["origin"] = "https://other.example"
        assert "access-control-allow-origin" not in other.client.options("/v1/completions", headers=asks).headers
