"""Thousands of requests made from the server's own OpenAPI document: none is a fault of the server's."""

from __future__ import annotations

import subprocess
import sys

import pytest
from serve.running import ALPHABET, ChatBytes, running, served
from soak.test_soak import LONG

from quoth.text.tokenizer import Characters

CASES = 2600  # For each of the two paths that take a body; the others add some.


@pytest.mark.skipif(not LONG, reason="make soak runs it; make test has its own bodies, in tests/serve")
def test_its_own_document() -> None:
    pytest.importorskip("schemathesis")
    with running([served("base", Characters(ALPHABET)), served("chat", ChatBytes())]) as server:
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"]
        command += [
            "--checks",
            "not_a_server_error",
            "--phases",
            "fuzzing",
            "--max-examples",
            str(CASES),
            "--request-timeout",
            "20",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        print(done.stdout[-3000:])
        assert done.returncode == 0, done.stdout + done.stderr
        assert server.is_idle()
