"""The server under bad and vanishing clients: it answers, tells what is wrong, and gets its slots back."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import httpx
import pytest
from serve.running import ALPHABET, Running, running, served

from quoth.generate.request import Request, Token
from quoth.serve.answers import Reply
from quoth.serve.app import Watch, _chunks
from quoth.serve.asked import Limits
from quoth.serve.metrics import Metrics
from quoth.serve.worker import Answer, Worker
from quoth.text.tokenizer import Characters

LONG = {"model": "base", "prompt": "a", "max_tokens": 4096}


def raw(server: Running, request: bytes, *, wait: float = 5.0) -> bytes:
    """Send bytes as they are; what comes back until the other side closes or falls silent."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=wait) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        got = b""
        while part := connection.recv(65536):
            got += part
    return got


BROKEN = [
    *(b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"prompt": "\xff"}', b'"' * 1000, b"[" * 100_000, b'{"prompt": NaN}'),
    *(b'{"prompt": "\\ud800"}', b'{"prompt": {"a": 1}}', b'{"prompt": 1e999}', b'{"temperature": "hot"}'),
    *(b'{"temperature": NaN}', b'{"prompt": "a", "seed": 1e30}', b'{"prompt": "a", "max_tokens": 1.5}'),
]
UNKNOWN = ["/v1/nothing", "/..%2f..%2fetc/passwd", "/static/../app.py", "/v1/models/%2e%2e"]


@pytest.mark.parametrize("body", BROKEN, ids=lambda body: body[:24].decode(errors="replace"))
def test_a_body_that_is_nothing_is_refused(server: Running, body: bytes) -> None:
    got = server.client.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    assert got.status_code == 400
    error = got.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"].endswith(".")


@pytest.mark.parametrize("path", UNKNOWN)
def test_an_unknown_address(server: Running, path: str) -> None:
    got = server.client.get(path)
    assert got.status_code == 404
    assert "error" in got.json()


def test_a_wrong_method(server: Running) -> None:
    got = server.client.get("/v1/completions")
    assert (got.status_code, got.json()["error"]["type"]) == (405, "invalid_request_error")


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


ENDLESS = {**LONG, "max_tokens": 10**6}


@pytest.fixture(scope="module")
def patient() -> Iterator[Running]:
    """A server whose answers have no end to wait for."""
    with running([served("base", Characters(ALPHABET))], Limits(tokens=10**6)) as one:
        yield one


def test_who_leaves_a_stream_frees_the_slot(patient: Running) -> None:
    with patient.client.stream("POST", "/v1/completions", json={**ENDLESS, "stream": True, "n": 4}) as answer:
        lines = answer.iter_lines()  # Which hangs up when it is forgotten.
        next(lines)
        assert patient.health()["running"] == 4
    assert patient.is_idle(2.0)


def test_who_leaves_before_the_answer_frees_the_slot(patient: Running) -> None:
    with pytest.raises(httpx.ReadTimeout):
        patient.client.post("/v1/completions", json={**ENDLESS, "n": 4}, timeout=0.2)
    assert patient.is_idle(2.0)


def test_a_client_that_never_reads_does_not_hold_up_others(server: Running) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps({**LONG, "stream": True, "logprobs": 5}).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port))) as deaf:
        deaf.sendall(head.encode() + body)
        got = server.client.post("/v1/completions", json={"prompt": "a", "max_tokens": 20})
        assert got.status_code == 200
    assert server.is_idle(10.0)


def test_a_full_queue_says_when_to_come_back() -> None:
    with running([served("base", Characters(ALPHABET), slots=1)], Limits(waiting=2)) as other:
        with ThreadPoolExecutor(8) as pool:
            body = {**LONG, "max_tokens": 1500}
            asked = [pool.submit(other.client.post, "/v1/completions", json=body) for _ in range(8)]
            got = [future.result() for future in asked]
        assert sorted(answer.status_code for answer in got)[0] == 200
        busy = [answer for answer in got if answer.status_code == 429]
        assert busy
        assert busy[0].headers["retry-after"] == "1"
        assert busy[0].json()["error"]["code"] == "queue_full"
        never = other.client.post("/v1/completions", json={"prompt": "a", "n": 4})
        assert (never.status_code, never.json()["error"]["code"]) == (400, None)
        assert other.client.post("/v1/completions", json={"prompt": "a", "n": 3}).status_code == 200


def test_who_leaves_the_queue_makes_room() -> None:
    with running([served("base", Characters(ALPHABET), slots=1)], Limits(waiting=2, tokens=10**6)) as other:
        with other.client.stream("POST", "/v1/completions", json={**ENDLESS, "stream": True}) as one:
            lines = one.iter_lines()
            next(lines)
            for _ in range(3):
                with pytest.raises(httpx.ReadTimeout):
                    other.client.post("/v1/completions", json={**ENDLESS, "n": 2}, timeout=0.2)
                time.sleep(0.2)
        assert other.is_idle()


@pytest.mark.parametrize(
    "given",
    [
        {"top_k": 10**30},
        {"temperature": 1e-40},
        {"top_p": 1e-50},
        {"temperature": 0, "repetition_penalty": 0.01},
        {"temperature": 1e-300, "repetition_penalty": 100, "presence_penalty": -2},
        {"logit_bias": {"1": -100}, "min_p": 1},
    ],
)
def test_the_ends_of_every_range_can_be_drawn_from(server: Running, given: Any) -> None:
    got = server.client.post("/v1/completions", json={"model": "base", "prompt": "a", "max_tokens": 5, **given})
    assert got.status_code == 200
    assert len(got.json()["choices"][0]["text"]) == 5


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_ends_when_its_time_is_over(stream: bool) -> None:
    limits = Limits(seconds=0.2, tokens=10**6)
    with running([served("base", Characters(ALPHABET))], limits) as other:
        began = time.monotonic()
        got = other.client.post("/v1/completions", json={**ENDLESS, "stream": stream})
        assert time.monotonic() - began < 3
        assert got.status_code == 200
        assert '"finish_reason":"length"' in got.text.replace(" ", "")
        assert other.is_idle(2.0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_step_that_fails_is_told_and_the_next_request_is_served(stream: bool, caplog: Any) -> None:
    model = served("base", Characters(ALPHABET))
    with running([model]) as other:
        step = model.engine.decoder.step
        model.engine.decoder.step = lambda rows: 1 / 0  # type: ignore[method-assign, assignment]
        got = other.client.post("/v1/completions", json={"prompt": "a", "max_tokens": 5, "stream": stream})
        assert got.status_code == (200 if stream else 500)
        assert "The engine failed" in got.text
        assert "ZeroDivisionError" in caplog.text
        metrics = other.client.get("/metrics").text
        assert 'quoth_requests_total{kind="completion",model="base",outcome="failed"} 1.0' in metrics
        model.engine.decoder.step = step  # type: ignore[method-assign]
        assert other.client.post("/v1/completions", json={"prompt": "a", "max_tokens": 5}).status_code == 200
        assert other.is_idle()


def test_metrics_count(server: Running) -> None:
    def value(name: str) -> float:
        lines = server.client.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    before = value('quoth_tokens_total{kind="written",model="base"}')
    server.client.post("/v1/completions", json={"prompt": "a", "max_tokens": 7})
    assert value('quoth_tokens_total{kind="written",model="base"}') == before + 7
    assert value('quoth_requests_total{kind="completion",model="base",outcome="ok"}') >= 1
    assert value("quoth_running") == 0


def test_prompts_are_not_logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with running([served("base", Characters(ALPHABET))]) as other:
        for prompt in ("abcabcabc", "abcabcabZ"):
            other.client.post("/v1/completions", json={"prompt": prompt, "max_tokens": 3})
    said = caplog.text + "".join(capfd.readouterr())
    assert "abcabcab" not in said


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


def test_who_leaves_with_events_unsent_leaves_no_task_behind() -> None:
    class Endless:
        finish = ""

        async def tokens(self) -> AsyncIterator[list[Token]]:
            while True:
                yield []

    model = served("base", Characters(ALPHABET))
    reply = Reply(model, [Request(prompt=[1])], 1, chat=False)

    async def leave() -> bool:
        unsent: asyncio.Queue[str | None] = asyncio.Queue(1)
        watch = Watch(Metrics(Worker([model.engine], 1)), "base", "completion")
        task = asyncio.ensure_future(_chunks(reply, 0, cast(Answer, Endless()), watch, unsent.put))
        while not unsent.full():
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)
        return task.done()

    assert asyncio.run(leave())
