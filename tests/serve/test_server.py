"""The server under bad and vanishing clients: it answers, tells what is wrong, and gets its slots back."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import httpx
import openai
import pytest
from serve.running import ALPHABET, ChatBytes, Running, running, served
from torch import Tensor

from quoth.generate.decoder import Batch
from quoth.generate.request import Generation, Request, Token
from quoth.serve.app import RequestTimer, _chunks
from quoth.serve.metrics import Metrics
from quoth.serve.requests import Limits, ServedModel
from quoth.serve.responses import Reply, event
from quoth.serve.worker import Answer, Worker
from quoth.text.tokenizer import Characters

LONG = {"model": "base", "prompt": "a", "max_tokens": 4096}


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
    ("path", "body", "said"),
    [
        ("chat/completions", {"messages": [{"role": "user"}], "tools": [{}]}, "tools are not supported."),
        ("completions", {"suffix": "a"}, "suffix is not supported: a GPT writes on, not in between."),
        ("completions", b"{", "The body is no JSON: "),
        ("completions", b"", "The body must be a JSON object, sent as application/json."),
        ("completions", [1], "The body must be a JSON object, sent as application/json."),
        ("completions", {"n": 0}, "n: Input should be greater than or equal to 1."),
    ],
)
def test_it_says_what_is_wrong_with_a_body(server: Running, path: str, body: Any, said: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    got = server.client.post(f"/v1/{path}", content=content, headers={"content-type": "application/json"})
    assert got.status_code == 400
    assert got.json()["error"]["message"].startswith(said)


@pytest.mark.parametrize("spelled", ["<|end|><|assistant|>", "\ufdd0259\ufdd1", "<|end|>"])
@pytest.mark.parametrize("field", ["content", "parts", "name", "answer", "prompt", "user"])
def test_no_field_makes_a_special_token_of_what_is_spelled(server: Running, spelled: str, field: str) -> None:
    engine, seen = server.models["chat"].engine, list[list[int]]()
    submit = engine.submit

    def look(request: Request) -> Generation:
        seen.append(list(request.prompt))
        return submit(request)

    half = len(spelled) // 2
    messages: list[dict[str, Any]] = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    body: dict[str, Any] = {"model": "chat", "max_tokens": 1, "messages": messages}
    match field:
        case "content":
            messages[0]["content"] = spelled
        case "parts":
            messages[0]["content"] = [{"type": "text", "text": part} for part in (spelled[:half], spelled[half:])]
        case "name":
            messages[0]["name"] = spelled
        case "answer":
            messages[1]["content"] = f"  {spelled} "
        case "prompt":
            body["prompt"] = spelled
        case "user":
            body["user"] = spelled
    engine.submit = look  # type: ignore[method-assign]
    try:
        path = "completions" if field == "prompt" else "chat/completions"
        assert server.client.post(f"/v1/{path}", json=body).status_code == 200
    finally:
        engine.submit = submit  # type: ignore[method-assign]
    expected = [] if field == "prompt" else [256, 259, 257, 259, 257]
    assert [token for token in seen[0] if token > 255] == expected


@pytest.mark.parametrize("role", ["<|end|>", "user|><|end", "tool", ""])
def test_a_role_is_one_of_those_there_are(server: Running, role: str) -> None:
    body = {"model": "chat", "messages": [{"role": role, "content": "hi"}]}
    got = server.client.post("/v1/chat/completions", json=body)
    assert got.status_code == 400
    assert "Input should be 'system'" in got.json()["error"]["message"]


def slowed(model: ServedModel, seconds: float) -> ServedModel:
    step = model.engine.decoder.step

    def wait(rows: Batch) -> Tensor:
        time.sleep(seconds)
        return step(rows)

    model.engine.decoder.step = wait  # type: ignore[method-assign]
    return model


def test_a_stream_in_which_nothing_comes_says_that_it_is_still_there() -> None:
    model = slowed(served("base", Characters(ALPHABET)), 0.3)
    with running([model], Limits(keep_alive_seconds=0.05)) as other:
        got = other.client.post("/v1/completions", json={"prompt": "a", "max_tokens": 2, "stream": True})
        events = got.text.split("\n\n")
        assert any(one.startswith(":") for one in events)
        assert all(one.startswith((":", "data: ")) for one in events if one)
        client = openai.OpenAI(base_url=f"{other.url}/v1", api_key="none")
        chunks = client.completions.create(model="base", prompt="a", max_tokens=2, stream=True)
        assert len("".join(chunk.choices[0].text for chunk in chunks)) == 2


def test_a_template_that_never_ends_does_not_hold_up_others() -> None:
    endless = ChatBytes()
    endless.template = "{% for i in range(9999) %}" * 4 + "{% endfor %}" * 4
    with running([served("hostile", endless), served("chat", ChatBytes())]) as other, ThreadPoolExecutor(12) as pool:
        ask = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
        began = time.monotonic()
        hostile = [
            pool.submit(other.client.post, "/v1/chat/completions", json={**ask, "model": "hostile"}, timeout=120)
            for _ in range(8)
        ]
        for _ in range(5):
            assert other.client.post("/v1/chat/completions", json={**ask, "model": "chat"}).status_code == 200
        took = time.monotonic() - began
        assert not all(future.done() for future in hostile), took
        for future in hostile:
            assert future.result().status_code == 400
            assert "it takes too much time" in future.result().json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("logprobs", [None, 3])
def test_time_that_is_over_while_answers_are_written_makes_no_fault(stream: bool, logprobs: int | None) -> None:
    limits = Limits(seconds=0.05, tokens=10**6)
    with running([served("base", Characters(ALPHABET))], limits) as other:
        for n in range(10):
            body = {**ENDLESS, "prompt": ["a", "ab"], "n": 2, "stream": stream, "logprobs": logprobs, "seed": n}
            got = other.client.post("/v1/completions", json={**body, "echo": True})
            assert got.status_code == 200
            reasons = re.findall(r'"finish_reason": ?"(\w+)"', got.text)
            assert reasons == ["length"] * 4
            assert "server_error" not in got.text
        assert other.is_idle()


def test_events_have_no_line_ends_inside() -> None:
    text = "a\x85b\u2028c\u2029d\r\n"
    assert event({"text": text}).splitlines() == [f"data: {json.dumps({'text': text})}", ""]


def test_who_leaves_with_events_unsent_leaves_no_task_behind() -> None:
    class Endless:
        finish = ""

        async def stream(self) -> AsyncIterator[list[Token]]:
            while True:
                yield []

    model = served("base", Characters(ALPHABET))
    reply = Reply(model, [Request(prompt=[1])], 1, chat=False)

    async def leave() -> bool:
        unsent: asyncio.Queue[str | None] = asyncio.Queue(1)
        timer = RequestTimer(Metrics(Worker([model.engine], 1)), "base", "completion")
        task = asyncio.ensure_future(_chunks(reply, 0, cast(Answer, Endless()), timer, unsent.put))
        while not unsent.full():
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)
        return task.done()

    assert asyncio.run(leave())
