"""`quoth serve`: what it refuses, and that it listens."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path

import httpx
import pytest
from cli.helpers import Quoth, start_process


def test_what_it_refuses(here: Path, quoth: Quoth) -> None:
    for arguments, said in (
        (["--port", "99999"], "--port must lie in 0 to 65535"),
        (["--slots", "0"], "must be more than 0"),
        (["nowhere"], "There is no run 'nowhere'"),
        (["first", "first"], "once only"),
        (["--api-key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY, but that variable is not set"),
        (["--cors", "my.example/page"], "--cors must be * or an origin such as https://my.example"),
        (["first", "--context", "100000"], "so --context cannot be 100,000"),
        (["--context", "-1"], "the other numbers 0 or more"),
        (["--host", "203.0.113.1"], "203.0.113.1 port 8000 cannot be listened on"),
    ):
        got = quoth("serve", *arguments)
        assert got.code == 2
        assert said in got.err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        got = quoth("serve", "first", "--port", str(taken.getsockname()[1]))
        assert got.code == 2
        assert "Address already in use" in got.err


def test_what_would_not_fit_into_memory_is_refused_before_it_is_mapped(
    here: Path, quoth: Quoth, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quoth.recipes import load_engine

    def unreachable(*given: object, **named: object) -> None:
        raise AssertionError

    monkeypatch.setattr(load_engine, "available_bytes", lambda device: 3_000_000)
    monkeypatch.setattr(load_engine.Engine, "__init__", unreachable)
    got = quoth("serve", "first", "--port", "0", "--slots", "1000")
    assert got.code == 2
    assert re.fullmatch(
        r".*first does not fit into memory: 1000 slots of [\d,]+ tokens and the weights take [^ ]+ [GM]B, but "
        r"3\.0 MB are free; give fewer --slots or a smaller --context\.\s*",
        got.err,
    )


@pytest.mark.parametrize(
    ("host", "warned"), [("0.0.0.0", True), ("::", True), ("127.0.0.1", False), ("localhost", False), ("::1", False)]
)
def test_a_server_that_everybody_reaches_is_warned_of(
    host: str, warned: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from quoth.cli.serve import Arguments, warn_of_everybody

    warn_of_everybody(Arguments(host=host), None)
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "everybody who reaches this machine may use the server; --api-key-env NAME asks for a key." in said
    ) == warned
    warn_of_everybody(Arguments(host=host), "secret")
    assert not capsys.readouterr().err


def test_a_smaller_context_answers_alike_and_knows_its_end(here: Path) -> None:
    from quoth.recipes.load_engine import load_engine

    full, less = (load_engine("first", "best", print, threads=1, context=n).engine for n in (0, 8))
    assert less.context == 8
    asked = dict(tokens=3, seed=1)
    assert "".join(less.stream("the ", **asked)) == "".join(full.stream("the ", **asked))
    assert len("".join(less.stream("the ", tokens=30))) == 30


def test_it_listens_answers_and_ends(here: Path) -> None:
    process = start_process("serve", "first", "--port", "0", "--json")
    assert process.stdout
    try:
        said = json.loads(process.stdout.readline())
        assert said["models"] == ["first"]
        got = httpx.post(f"{said['url']}/v1/completions", json={"prompt": "the ", "max_tokens": 5}, timeout=30)
        assert len(got.json()["choices"][0]["text"]) == 5
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert "Traceback" not in errors
