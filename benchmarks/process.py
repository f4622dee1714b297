"""A command in a process of its own, with its time and its memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quoth.system.errors import InputError

SAMPLE_SECONDS = 0.5


@dataclass(frozen=True)
class Finished:
    """What a command took, and what it printed.

    `peak_mb` is the most that one of its processes held; `tree_mb` what all of them held together, sampled.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float
    tree_mb: float
    output: str


def run(command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Finished:
    """Run a command to its end, `env` added to the environment.

    Raises:
        InputError: it failed; the message ends with what it said.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.monotonic()
        process = subprocess.Popen(command, cwd=cwd, env={**os.environ, **(env or {})}, stdout=out, stderr=err)
        try:
            with _Sampler(process.pid) as sampler:
                _, status, usage = os.wait4(process.pid, 0)
                seconds = time.monotonic() - started
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if process.returncode is None:
                process.terminate()
                process.wait()
        out.seek(0)
        err.seek(0)
        output = out.read()
        if process.returncode:
            said = "\n".join((err.read().strip() or output.strip()).splitlines()[-12:])
            raise InputError(f"{' '.join(command)} failed with {process.returncode}:\n{said}")
    kib = 1 if sys.platform == "darwin" else 1024  # macOS counts in bytes.
    peak = usage.ru_maxrss * kib / 1e6
    return Finished(seconds, usage.ru_utime + usage.ru_stime, peak, max(peak, sampler.most / 1e6), output)


class _Sampler:
    """Watches, from a thread, how much a process and its descendants hold together."""

    def __init__(self, pid: int) -> None:
        self.pid, self.most = pid, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.most = max(self.most, tree_bytes(self.pid))


def tree_bytes(pid: int) -> int:
    """The private memory of a process and its descendants, and the largest shared part; 0 where /proc is missing.

    Libraries are shared by all, so they count once. Pages that a fork has not yet copied count twice.
    """
    page, private, shared = os.sysconf("SC_PAGE_SIZE"), 0, 0
    for each in _descendants(pid):
        try:
            _, resident, common, *_ = (int(n) for n in Path(f"/proc/{each}/statm").read_text().split())
        except (OSError, ValueError):
            continue
        private += resident - common
        shared = max(shared, common)
    return page * (private + shared)


def _descendants(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found = children.read_text().split()
        except OSError:
            continue  # It ended meanwhile.
        for child in found:
            yield from _descendants(int(child))
