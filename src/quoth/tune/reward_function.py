"""Rewards by a user's own Python: `reward(prompt: str, answer: str) -> float`, run in a process that is bounded."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from quoth.system.child import in_words
from quoth.system.errors import InputError, short
from quoth.system.memory import size
from quoth.system.supervisor import command, end
from quoth.text.render import read, write

# What a function may take: seconds of a clock for the file to load, and for each answer; bytes beyond Python's own.
LOADING_SECONDS = 60.0
SECONDS = 10.0
MEMORY = 4 * 2**30


class RewardFunction:
    """A function of a user's file, in a process of its own that lives until `close`.

    What the function prints is not shown.

    >>> RewardFunction(Path("rule.py"))(["Ask of love."], ["What is love?"])    # doctest: +SKIP
    [1.0]

    Raises:
        InputError: the file cannot be read or does not run, or has no such function.
    """

    def __init__(self, file: Path, name: str = "reward", *, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self.file, self.name, self.seconds, self.memory = file, name, seconds, memory
        if not file.is_file():
            raise InputError(f"There is no file {file} with a reward function.")
        self._process = subprocess.Popen(
            command("quoth.tune.reward_child"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        self._end = weakref.finalize(self, _end, self._process)
        about = {"file": str(file), "name": name, "seconds": seconds, "memory": memory}
        self._write(about)
        got, late = self._read(LOADING_SECONDS)
        if "ready" not in got:
            self.close()
        if "lacks" in got:
            raise InputError(f"{file} has no function {name}.")
        if "failed" in got:
            raise InputError(f"{file} does not run: {in_words(got['failed'], size(memory))}.")
        if "ready" not in got:
            raise InputError(f"{file} does not run: {self._why(late, LOADING_SECONDS)}.")

    def __call__(self, prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
        """The reward of each answer to its prompt.

        Raises:
            InputError: the function raises, returns what is no finite number, takes too much, or ends its process.
        """
        # All go at once: a question at a time would wait for the other process as long as the function takes.
        self._write({"prompts": list(prompts), "answers": list(answers)})
        return [self._one(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]

    def close(self) -> None:
        """End the process, with those that the function has started."""
        self._end()

    def _one(self, prompt: str, answer: str) -> float:
        got, late = self._read(self.seconds)
        if "reward" in got:
            return float(got["reward"])
        asked = f"for the prompt {short(prompt)} and the answer {short(answer)}"
        if "no_number" in got:
            raise InputError(f"{self} should return a finite number, but {asked} it returned {got['no_number']}.")
        if "failed" in got:
            raise InputError(f"{self} raised, {asked}, {in_words(got['failed'], size(self.memory))}.")
        self.close()
        raise InputError(f"{self} was stopped {asked}: {self._why(late, self.seconds)}.")

    def __str__(self) -> str:
        return f"{self.name} in {self.file}"

    def _write(self, message: dict[str, Any]) -> None:
        assert self._process.stdin
        with suppress(OSError, ValueError):  # Of a process that has ended, reading will tell.
            write(self._process.stdin, message)

    def _read(self, seconds: float) -> tuple[dict[str, Any], bool]:
        """The process's next answer, empty if it gives none; and whether its time ran out."""
        process, late = self._process, threading.Event()
        assert process.stdout

        def stop() -> None:
            late.set()
            end(process)

        clock = threading.Timer(seconds, stop)
        clock.daemon = True
        clock.start()
        try:
            got = read(process.stdout)
        except (OSError, ValueError):
            got = None
        finally:
            clock.cancel()
        return got or {}, late.is_set()

    def _why(self, late: bool, seconds: float) -> str:
        code = self._process.wait()
        if late or code == -getattr(signal, "SIGALRM", 0):
            return f"it took longer than {seconds:g} s"
        if code < 0:
            return f"its process was ended by signal {-code}"
        return f"it ended its process with exit code {code}"


def _end(process: subprocess.Popen[bytes]) -> None:
    end(process)
    for stream in (process.stdin, process.stdout):
        with suppress(OSError):
            if stream:
                stream.close()
