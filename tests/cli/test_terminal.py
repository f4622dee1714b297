"""Processes of their own: interrupted, resumed, and on a terminal."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli.helpers import MACHINE, TINY, Quoth, start_process

LONG = ["--layers", "1", "--width", "16", "--context", "16", "--batch", "2", "--steps", "1500", "--sample-tokens", "5"]


def wait_for_steps(process: subprocess.Popen[str], run: Path) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end and process.poll() is None:
        metrics = run / "metrics.jsonl"
        if metrics.exists() and '"loss"' in metrics.read_text():
            return
        time.sleep(0.01)
    raise AssertionError(f"no step was logged: {process.communicate()}")


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_is_saved_and_goes_on(number: signal.Signals, here: Path, quoth: Quoth) -> None:
    process = start_process("train", "text.txt", *LONG, *MACHINE, "--evaluate-every", "100000", "--out", "runs/long")
    wait_for_steps(process, here / "runs/long")
    process.send_signal(number)
    out, err = process.communicate(timeout=90)
    assert (process.returncode, err) == (128 + number, "")
    assert "Stopped after" in out
    assert "quoth train --resume long" in out
    state = json.loads(next(here.glob("runs/long/checkpoints/*/state.json")).read_text())
    assert 10 <= state["step"] <= 1500
    assert json.loads(quoth("runs", "--json").out)["runs"][0]["state"] in ("interrupted", "terminated", "finished")
    assert quoth("sample", "long", "--tokens", "3").code == 0
    result = quoth("train", "--resume", "long", "--json")
    assert result.code == 0
    value = json.loads(result.out)
    assert (value["steps"], value["stopped"]) == (1500, "finished")


def on_a_terminal(arguments: list[str], **variables: str) -> str:
    """What a command writes to a terminal of 100 columns."""
    pty = pytest.importorskip("pty")
    import fcntl
    import struct
    import termios

    inner, outer = pty.openpty()
    fcntl.ioctl(outer, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    clean = {key: value for key, value in os.environ.items() if key not in ("CI", "NO_COLOR", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "quoth", *arguments],
        stdin=outer,
        stdout=outer,
        stderr=outer,
        env={**clean, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1", **variables},
    )
    os.close(outer)
    said = b""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if select.select([inner], [], [], 1.0)[0]:
            try:
                more = os.read(inner, 65536)
            except OSError:
                break
            if not more:
                break
            said += more
        elif process.poll() is not None:
            break
    assert process.wait(30) == 0
    os.close(inner)
    return said.decode(errors="replace")


def test_the_living_line(here: Path) -> None:
    said = on_a_terminal(["train", "text.txt", *LONG, *MACHINE, "--steps", "500"])
    assert "\x1b[" in said
    assert " left" in said
    assert "━" in said
    assert "Done" in said


def test_no_color(here: Path) -> None:
    said = on_a_terminal(["train", "text.txt", *TINY], NO_COLOR="1")
    assert "Done" in said
    assert "\x1b" not in said


def test_piped_output_is_plain(here: Path) -> None:
    process = start_process("train", "text.txt", *TINY)
    out, err = process.communicate(timeout=90)
    assert (process.returncode, err) == (0, "")
    assert "\x1b" not in out
    assert "\r" not in out
