"""Whatever a supervised process has started ends with it, and the supervisor ends as its child does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quoth.system import supervisor
from quoth.system.supervisor import command, end

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has child subreapers")
Start = Callable[[str], subprocess.Popen[bytes]]
# Starts another process in a session of its own, writes its id, and lets its own parent end.
ORPHAN = (
    "import os, sys, time\nif not os.fork():\n    os.setsid()\n    if os.fork(): os._exit(0)\n"
    "    print(os.getpid(), flush=True)\n    time.sleep(600)\n"
)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    begun = []

    def start(code: str) -> subprocess.Popen[bytes]:
        (tmp_path / "program.py").write_text(code)
        begun.append(subprocess.Popen(command("program", "a", "b"), stdout=subprocess.PIPE, start_new_session=True))
        return begun[-1]

    yield start
    for process in begun:
        end(process)


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"
    except FileNotFoundError:
        return True


def line(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout
    return int(process.stdout.readline())


def test_an_orphan_of_another_session_ends_with_the_program(start: Start) -> None:
    process = start(f"{ORPHAN}os.wait(); time.sleep(0.1)")
    orphan = line(process)
    assert process.wait(60) == 0 and ended(orphan)


def test_an_orphan_of_another_session_is_ended_from_outside(start: Start) -> None:
    process = start(f"{ORPHAN}time.sleep(600)")
    orphan = line(process)
    assert not ended(orphan)
    end(process)
    assert ended(orphan) and ended(process.pid)


def test_what_starts_anew_as_it_is_ended_is_ended(start: Start) -> None:
    chain = "while True:\n    if os.fork(): os._exit(0)\n    os.setsid()\n"
    process = start(f"import os, time\nif os.fork():\n    print(1, flush=True); time.sleep(600)\n{chain}")
    line(process)
    began = time.monotonic()
    end(process)
    assert time.monotonic() - began < 2 * supervisor.ENDING_SECONDS
    assert not running(f"PYTHONPATH={os.environ['PYTHONPATH']}".encode())


def running(variable: bytes) -> list[str]:
    """The processes in whose environment a variable has this value, other than this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            there = variable in (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if there and folder.name != str(os.getpid()) and not ended(int(folder.name)):
            found.append(folder.name)
    return found


def test_a_stopped_supervisor_is_ended_too(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "ENDING_SECONDS", 0.5)
    process = start(
        "import os, signal, time\nos.kill(os.getppid(), signal.SIGSTOP)\n"
        "print(os.getpid(), flush=True)\ntime.sleep(600)"
    )
    child = line(process)
    end(process)
    assert ended(child) and ended(process.pid)


def test_the_program_has_its_arguments_and_none_of_the_supervisors_pipes(start: Start) -> None:
    process = start("import os, sys, time\nprint(sys.argv[1:])\nsys.stdout.flush()\nos.close(1)\ntime.sleep(600)")
    assert process.stdout and process.stdout.read() == b"['a', 'b']\n"
    assert process.poll() is None


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("pass", 0),
        ("raise SystemExit(3)", 3),
        ("import os; os._exit(4)", 4),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
        ("import os; os.kill(0, 15)", -signal.SIGTERM),
        ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV),
    ],
)
def test_it_ends_as_the_program_does(start: Start, code: str, status: int) -> None:
    assert start(code).wait(60) == status
