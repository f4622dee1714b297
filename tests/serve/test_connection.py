"""Connections: how many, how slow, and what is sent over them that is no request."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest
from serve.running import ALPHABET, Running, raw, running, served

from quoth.serve.requests import Limits
from quoth.text.tokenizer import Characters


@pytest.mark.parametrize(
    "request_",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: abc\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_request_ends_without_harm(server: Running, request_: bytes) -> None:
    got = raw(server, request_)
    assert b" 500 " not in got[:20]
    assert server.health()["status"] == "ok"


def test_heads_and_bodies_that_do_not_come_in_time() -> None:
    with running([served("base", Characters(ALPHABET))], Limits(head_seconds=0.3, body_seconds=0.3)) as other:
        host, port = other.url.removeprefix("http://").split(":")
        for sent in (b"", b"GET / HT", b"GET /health HTTP/1.1\r\nHost: localhost\r\n"):
            with socket.create_connection((host, int(port)), timeout=10) as slow:
                slow.sendall(sent)
                assert slow.recv(1000) == b""
        with socket.create_connection((host, int(port)), timeout=10) as slow:
            slow.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += slow.recv(1000)
            assert b" 200 " in answer[:20]
            slow.sendall(b"GET /health")
            assert slow.recv(1000) == b""
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        with socket.create_connection((host, int(port)), timeout=10) as slow:
            slow.sendall(head + b"Content-Length: 100\r\n\r\n{")
            assert b" 408 " in slow.recv(1000)[:20]


def test_more_connections_than_there_may_be_are_refused() -> None:
    with running([served("base", Characters(ALPHABET))], Limits(connections=4)) as other:
        host, port = other.url.removeprefix("http://").split(":")
        with ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
            refused = stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
            assert b" 503 " in refused.recv(1000)[:20]
        assert other.is_idle()
