"""`quoth serve`: what it refuses, and that it listens."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import httpx
from cli.helpers import Quoth, start_process


def test_what_it_refuses(here: Path, quoth: Quoth) -> None:
    for arguments, said in (
        (["--port", "99999"], "--port must lie in 0 to 65535"),
        (["--slots", "0"], "must be more than 0"),
        (["nowhere"], "There is no run 'nowhere'"),
        (["first", "first"], "once only"),
        (["--api-key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY, but that variable is not set"),
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
