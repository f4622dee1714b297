"""Chat templates are programs of somebody else's: a process runs one, and is killed where it takes too much."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from quoth.text.render import read, write

# What one conversation may take: seconds of a processor, and of a clock; bytes of memory; characters of output.
SECONDS = 1.0
CLOCK_SECONDS = 20.0
MEMORY = 512 * 2**20
OUTPUT = 8 * 2**20
# How the process ends where its time is over.
KILLED = {-int(getattr(signal, name, 1)) for name in ("SIGPROF", "SIGKILL")}
PROGRAM = Path(__file__).with_name("render.py")


class TemplateError(Exception):
    """The template refused a conversation, is broken, or took too much; the message says which."""


class Asked(NamedTuple):
    """What a template is asked to write.

    Attributes:
        number: how many of the messages, from the first on.
        answer: whether the text ends where the model's own turn begins.
        marks: what stands before and after each text that the template encloses in `{% generation %}`.
    """

    number: int
    answer: bool
    marks: tuple[str, str] = ("", "")


class Sandbox:
    """Renders one template, in a process that is started when it is first needed, and again after it was killed.

    Several threads may use it; they take turns.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def render(self, messages: Sequence[Mapping[str, Any]], *, answer: bool) -> str:
        """The conversation as the template writes it; with `answer`, up to where the model's turn begins.

        Raises:
            TemplateError: the template refuses, is broken, or takes too much.
        """
        (text,) = self.render_all(messages, [Asked(len(messages), answer)])
        if isinstance(text, TemplateError):
            raise text
        return text

    def render_all(self, messages: Sequence[Mapping[str, Any]], asked: Sequence[Asked]) -> list[str | TemplateError]:
        """Several texts of one conversation, or for each the error that `render` would raise."""
        with self._lock:
            got = self._ask({"messages": [dict(m) for m in messages], "asked": asked})
        return [_text(one) for one in (got if isinstance(got, list) else [got] * len(asked))]

    def _ask(self, conversation: dict[str, Any]) -> list[dict[str, Any]] | dict[str, Any]:
        """The process's answers, or why it has none."""
        process = self._process = self._process or self._start()
        assert process.stdin and process.stdout
        clock = threading.Timer(CLOCK_SECONDS, process.kill)
        clock.daemon = True
        clock.start()
        try:
            write(process.stdin, conversation)
            got: list[dict[str, Any]] | None = read(process.stdout)
        except (OSError, ValueError):
            got = None
        finally:
            clock.cancel()
        if got is None:
            self._process = None
            killed = _end(process) in KILLED
            return {"error": "it takes too much time" if killed else "the process that it runs in has failed"}
        return got

    def _start(self) -> subprocess.Popen[bytes]:
        if importlib.util.find_spec("jinja2") is None:
            raise TemplateError("Chat templates need Jinja2, which is not installed; pip install jinja2 brings it.")
        # With -P the program's own folder is not looked into for what it imports.
        command = [sys.executable, "-P", str(PROGRAM)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=-1
        )
        weakref.finalize(self, _end, process)
        assert process.stdin
        with contextlib.suppress(OSError):
            write(process.stdin, {"source": self.source, "seconds": SECONDS, "memory": MEMORY, "output": OUTPUT})
        return process


def _text(got: dict[str, Any]) -> str | TemplateError:
    if "text" in got:
        return str(got["text"])
    if "refused" in got:
        return TemplateError(got["refused"])
    if "broken" in got:
        return TemplateError(f"The model's chat template is broken: {got['broken']}.")
    return TemplateError(f"The model's chat template refuses this conversation: {got['error']}.")


def _end(process: subprocess.Popen[bytes]) -> int:
    """How a process has ended, at the latest now."""
    process.kill()
    for stream in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if stream:
                stream.close()
    return process.wait()
