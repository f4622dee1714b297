"""A training in a process of its own, of which the last line that it says is known."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

# A training that is told to end saves first.
SAVING_SECONDS = 30.0
# How many bytes are kept of what it says.
KEPT = 4096


class TrainingProcess:
    """A `quoth tune ... --json` that trains beside this process.

    Attributes:
        line: the last line that it said.
        code: its exit code; None before it has ended.
        summary: the summary of the run that it made; empty before it has ended well.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = command
        self.line = ""
        self.summary: dict[str, Any] = {}
        self.code: int | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the process. It has a session of its own, so a terminal's Ctrl-C does not reach it."""
        plain = {**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
        self._process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=plain, start_new_session=True,
        )  # fmt: skip
        self._following = asyncio.create_task(self._follow(self._process))

    @property
    def runs(self) -> bool:
        """Whether it is under way, or about to be."""
        return self.code is None

    async def stop(self) -> None:
        """Tell it to end; it saves where it is. It is killed if that takes too long."""
        if not self.runs or self._process is None or self._following is None:
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        await asyncio.wait({self._following}, timeout=SAVING_SECONDS)
        if self.runs:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._following

    async def _follow(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout and process.stderr
        said, _ = await asyncio.gather(process.stdout.read(), self._listen(process.stderr))
        code = await process.wait()
        with suppress(ValueError):
            self.summary = json.loads(said)
        self.code = code

    async def _listen(self, stream: asyncio.StreamReader) -> None:
        held = b""
        while came := await stream.read(KEPT):
            held = (held + came)[-KEPT:]
            said = (" ".join(line.split()) for line in held.decode(errors="replace").splitlines())
            self.line = next((line for line in reversed(list(said)) if line), self.line)
