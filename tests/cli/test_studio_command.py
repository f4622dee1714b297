"""`quoth studio`, and `quoth train --studio`: they show a run and end when they are told to."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import httpx
import pytest
from cli.helpers import TINY, Quoth, start_process, write_text

from quoth.cli.studio import open_run
from quoth.system.lock import hold


def test_it_listens_lets_a_browser_in_and_ends(here: Path) -> None:
    process = start_process("studio", "first", "--port", "0", "--json")
    assert process.stdout
    try:
        said = json.loads(process.stdout.readline())
        assert said["run"] == "first"
        with httpx.Client() as client:
            assert client.get(said["url"]).status_code == 200
            told = client.get(said["url"].partition("?")[0] + "api/run").json()
            assert told["moments"][-1] == 6
            with client.stream("GET", said["url"].partition("?")[0] + "api/live"):
                began = time.monotonic()
                process.send_signal(signal.SIGINT)
                process.wait(20)
                assert time.monotonic() - began < 4, "an open page does not hold it up for long"
        assert json.loads(process.stdout.readline())["url"] != said["url"], "the next browser gets a code of its own"
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert "Traceback" not in errors


def test_what_cannot_be_opened_is_said(here: Path, quoth: Quoth) -> None:
    for arguments, said in (
        (["nothing"], "There is no run 'nothing'"),
        (["first", "--port", "70000"], "--port must lie in 0 to 65535"),
        (["first", "--host", "203.0.113.7"], "cannot be listened on"),
    ):
        result = quoth("studio", *arguments)
        assert result.code == 2
        assert said in " ".join(result.err.split())


def test_a_run_that_has_only_begun_is_waited_for(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil
    import threading

    kept, aside = here / "runs/first/checkpoints", here / "aside"
    snapshots = here / "runs/first/snapshots"
    kept.rename(aside)
    shutil.rmtree(snapshots)
    lock = hold(here / "runs/first")
    threading.Timer(0.5, lambda: aside.rename(kept)).start()
    assert open_run("first").steps()
    assert "its first weights are waited for" in " ".join(capsys.readouterr().err.split())
    lock.release()


def test_a_training_shows_itself_and_the_studio_stays_open_until_it_is_ended(here: Path) -> None:
    write_text(here / "text.txt")
    process = start_process("train", "text.txt", *TINY, "--out", "shown", "--studio", "--json")
    assert process.stderr and process.stdout
    said = ""
    while "stays open" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    assert json.loads(process.stdout.readline())["stopped"] == "finished"
    while not (found := re.search(r"http://\S+code=\S+", said)):
        said += process.stderr.readline()
    with httpx.Client() as client:
        assert client.get(found[0]).status_code == 200
        assert client.get(found[0].partition("?")[0] + "api/run").json()["name"] == "shown"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in errors
    with pytest.raises(httpx.ConnectError):
        httpx.get(found[0])


def test_a_training_goes_on_where_the_studio_dies(here: Path) -> None:
    write_text(here / "text.txt")
    broken = here / "uvicorn"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ModuleNotFoundError('gone', name='uvicorn')")
    path = os.pathsep.join(filter(None, [str(here), os.environ.get("PYTHONPATH", "")]))
    process = start_process("train", "text.txt", *TINY, "--out", "shown", "--studio", "--json", PYTHONPATH=path)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0
    assert json.loads(out)["stopped"] == "finished"
    assert "quoth studio needs uvicorn" in " ".join(errors.split())
