"""Checks what learners wrote. Each file runs in a process of its own, which is stopped where it takes too much."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from quoth.ladder.checker.exercise import Exercise
from quoth.ladder.checker.values import decode
from quoth.ladder.exercises import named
from quoth.system.child import in_words
from quoth.system.device import cores
from quoth.system.errors import InputError
from quoth.system.memory import size
from quoth.system.supervisor import command, end

# What one file may take: seconds of a clock, the import of torch included; bytes of memory beyond torch's; bytes that
# are printed; bytes of a file that is written.
SECONDS = 20.0
MEMORY = 2 * 2**30
PRINTED = 1_000_000
WRITTEN = 16 * 2**20
POLL_SECONDS = 0.02

NAMED = re.compile(r"^# exercise: *([\w-]+)", re.MULTILINE)


@dataclass(frozen=True)
class Verdict:
    """What came of a file.

    Attributes:
        file: what was checked.
        exercise: its name; empty where the file names none.
        mistake: a sentence on what is wrong, or None where nothing is.
        ran: whether the file could be run and has the function.
        seconds: how long that took.
        printed: what the file printed.
    """

    file: Path
    exercise: str
    mistake: str | None
    ran: bool = True
    seconds: float = 0.0
    printed: str = ""

    @property
    def right(self) -> bool:
        """Whether nothing is wrong."""
        return self.mistake is None


@dataclass(frozen=True)
class Ended:
    """How a process has ended: what it wrote as its answer, what it printed, and what stopped it, if anything."""

    answer: list[dict[str, Any]]
    printed: str
    stopped: str | None


def check(file: Path) -> Verdict:
    """Check one file.

    Raises:
        InputError: the file cannot be read, or does not say of which exercise it is.
    """
    return _check(file, threading.Event())


def check_all(files: Sequence[Path]) -> Generator[Verdict, None, None]:
    """Check files side by side, as many at once as there are cores, and yield in their order what came of them.

    A file that cannot be read, or names no exercise, is a verdict too. When the caller stops, so do all processes.
    """
    stop = threading.Event()

    def one(file: Path) -> Verdict:
        try:
            return _check(file, stop)
        except (InputError, OSError) as error:
            return Verdict(file, "", str(error), ran=False)

    pool = ThreadPoolExecutor(cores())
    try:
        yield from pool.map(one, files)
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def files_in(folder: Path) -> list[Path]:
    """Every .py file in a folder and those in it, hidden ones left out, sorted.

    Raises:
        InputError: there is none.
    """
    found = sorted(f for f in folder.rglob("*.py") if f.is_file())
    found = [f for f in found if not any(part.startswith(".") for part in f.relative_to(folder).parts)]
    if not found:
        raise InputError(f"{folder} has no .py file to check.")
    return found


def exercise_of(file: Path) -> str:
    """The exercise that a file names.

    Raises:
        InputError: the file cannot be read, or names none that there is.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}.") from error
    found = NAMED.search(text)
    if not found:
        raise InputError(f"{file} should begin with `# exercise: NAME`; `quoth exercise` lists the names.")
    named(found[1])
    return found[1]


def _check(file: Path, stop: threading.Event) -> Verdict:
    name, started = exercise_of(file), time.monotonic()
    ended = _run(file, name, stop)
    ran, mistake = sentence(file, named(name), ended)
    return Verdict(file, name, mistake, ran, time.monotonic() - started, ended.printed)


def sentence(file: Path, exercise: Exercise, ended: Ended) -> tuple[bool, str | None]:
    """Whether the file ran, and what is wrong with it, if anything."""
    last = ended.answer[-1] if ended.answer else {}
    call = next((exercise.call(line["calls"]) for line in reversed(ended.answer) if "calls" in line), None)
    if "got" in last and not ended.stopped:
        return True, judged(exercise, last)
    if "lacks" in last:
        return False, f"{file} has no function {exercise.name}."
    if ended.stopped:
        return bool(call), f"{call or file} was stopped: {ended.stopped}."
    if "failed" in last:
        said = in_words(last["failed"], size(MEMORY))
        return bool(call), f"{call} raised {said}." if call else f"{file} does not run: {said}."
    return bool(call), f"{call or file} was stopped: it ended its process with exit code 0."


def judged(exercise: Exercise, outcome: dict[str, Any]) -> str | None:
    """What is wrong with the results of all calls, or with what the calls did besides."""
    try:
        got = [decode(value) for value in outcome["got"]]
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError):  # The file may have changed torch itself.
        return f"The results of {exercise.name} cannot be read."
    mistake = exercise.judge(got)
    if mistake is None and outcome["changes"]:
        return (
            f"The results are right, but {exercise.name} changes its argument {outcome['changes']}, which its caller "
            "may still need; it should change a copy."
        )
    if mistake is None and outcome["seeds"]:
        return f"The results are right, but {exercise.name} sets torch's global seed, which is for its caller to set."
    return mistake


def _run(file: Path, name: str, stop: threading.Event) -> Ended:
    """Run the file in a process of its own, and end it with all that it has started."""
    with tempfile.TemporaryDirectory(prefix="quoth-", ignore_cleanup_errors=True) as folder:
        answer = Path(folder) / "answer"
        limits = map(str, (SECONDS, MEMORY, WRITTEN))
        process = subprocess.Popen(
            command("quoth.ladder.checker.check_child", str(file), name, str(answer), *limits),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
            start_new_session=True,
        )
        assert process.stdout
        printed = Printed(process.stdout)
        try:
            late = _wait(process, printed.full, stop)
        finally:
            end(process)
            printed.join()
        return Ended(_lines(answer), printed.text(), _why(process.returncode, late, printed.full.is_set()))


class Printed(threading.Thread):
    """Reads what a process prints until there is too much, so that neither a pipe nor a disk runs full."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self.full = threading.Event()
        self._stream, self._parts = stream, bytearray()
        self.start()

    def run(self) -> None:
        with suppress(OSError, ValueError):
            while part := os.read(self._stream.fileno(), 2**16):
                self._parts += part
                if len(self._parts) > PRINTED:
                    return self.full.set()
        return None

    def text(self) -> str:
        return bytes(self._parts).decode("utf-8", "replace")

    def join(self, timeout: float | None = 1.0) -> None:
        """Wait until all is read; not for long, as a process that could not be ended may keep the pipe open."""
        super().join(timeout)
        if not self.is_alive():
            self._stream.close()


def _wait(process: subprocess.Popen[bytes], full: threading.Event, stop: threading.Event) -> bool:
    """Wait until the process ends, prints too much or is to stop; whether its time ran out."""
    end = time.monotonic() + SECONDS
    while process.poll() is None and not full.is_set() and not stop.is_set():
        if time.monotonic() > end:
            return True
        full.wait(POLL_SECONDS)
    return False


def _why(code: int, late: bool, full: bool) -> str | None:
    """What stopped a process before its end, in words; None where nothing did."""
    if full:
        return f"it printed more than {PRINTED:,} bytes"
    if late or -code in {getattr(signal, name, None) for name in ("SIGALRM", "SIGXCPU")}:
        return f"it took longer than {SECONDS:g} s, the import of torch included"
    if code < 0:
        return f"its process was ended by {_signal(-code)}"
    return f"it ended its process with exit code {code}" if code else None


def _signal(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _lines(answer: Path) -> list[dict[str, Any]]:
    """The lines of an answer; those that are not whole are left out."""
    lines = []
    with suppress(OSError, ValueError):
        for line in answer.read_text(encoding="utf-8").splitlines():
            lines.append(json.loads(line))
    return lines
