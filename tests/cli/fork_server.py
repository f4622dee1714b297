"""Runs commands, each in a process forked from this one, which has imported what takes long: a line of JSON for each.

What is asked: {"arguments", "folder", "stdin", "seconds"}. What is told: {"code", "out", "err"}, where a negative code
is the signal that ended the command.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
from contextlib import chdir, redirect_stdout
from pathlib import Path
from typing import IO, Any

import uvicorn
from cli.helpers import MACHINE, SHAPE, write_text

import quoth.recipes.climb
import quoth.recipes.forecast
import quoth.recipes.start
import quoth.serve.app
from quoth.cli.dispatch import dispatch

# Beyond what importing has taken, in bytes: enough for all that is tiny, and too little to harm the machine.
ROOM = 2 * 2**30
WALL_SECONDS = 120


def main() -> None:
    quicken()
    warm_up()
    for line in sys.stdin:
        asked = json.loads(line)
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8") as given,
            tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as out,
            tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as err,
        ):
            given.write(asked["stdin"])
            given.seek(0)
            child = os.fork()
            if child == 0:
                run(asked, given, out, err)
            _, status = os.waitpid(child, 0)
            out.seek(0)
            err.seek(0)
            code = os.waitstatus_to_exitcode(status)
            print(json.dumps({"code": code, "out": out.read(), "err": err.read()}), flush=True)


def quicken() -> None:
    """Serve no further than to listening, and time nothing: what a machine is best used with is no matter here."""
    uvicorn.Server.run = lambda self, sockets=None: None  # type: ignore[method-assign]

    def fastest(work: Any, device: str, seconds: float = 0.1) -> float:
        work()
        return 0.01

    for module in (quoth.system.device, quoth.recipes.dial):
        module.fastest = fastest  # type: ignore[attr-defined]


def warm_up() -> None:
    """Train once, so that nothing has to be imported or looked up by every command anew."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder), redirect_stdout(sys.stderr):
        write_text(Path("text.txt"))
        assert dispatch(["train", "text.txt", *SHAPE, *MACHINE, "--steps", "2", "--sample-tokens", "2"]) == 0


def run(asked: dict[str, Any], given: IO[str], out: IO[str], err: IO[str]) -> None:
    """The command, in this process, which ends with it."""
    for file, number in ((given, 0), (out, 1), (err, 2)):
        os.dup2(file.fileno(), number)
    sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115 What the parent has read ahead is not the command's.
    os.chdir(asked["folder"])
    limit(resource.RLIMIT_AS, address_space() + ROOM)
    limit(resource.RLIMIT_CPU, asked["seconds"])
    limit(resource.RLIMIT_CORE, 0)
    signal.alarm(WALL_SECONDS)
    code: Any = 1
    try:
        code = dispatch(asked["arguments"])
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def limit(what: int, most: int) -> None:
    resource.setrlimit(what, (most, most))


def address_space() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


main()
