"""The child process in which a chat template runs: bounded in time, memory and output by the system, not by trust.

`sandbox.py` starts it by its path, so that it loads nothing but Jinja. It reads and writes JSON, each preceded by its
length in four bytes.
"""

from __future__ import annotations

import contextlib
import json
import signal
import struct
import sys
from typing import IO, Any

LENGTH = struct.Struct(">I")


class RefusedError(Exception):
    """The template called raise_exception."""


class OutputError(Exception):
    """The template wrote too much."""


def read(stream: IO[bytes]) -> Any:
    """One message; None at the stream's end."""
    head = stream.read(LENGTH.size)
    return json.loads(stream.read(*LENGTH.unpack(head))) if len(head) == LENGTH.size else None


def write(stream: IO[bytes], message: Any) -> None:
    """One message."""
    content = json.dumps(message).encode()
    stream.write(LENGTH.pack(len(content)) + content)
    stream.flush()


def main() -> None:
    """Answer one conversation after the other, until the parent has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches the whole group; it is the parent's.
    source, bounds = sys.stdin.buffer, read(sys.stdin.buffer)
    _bound_memory(bounds["memory"])
    template = _Template(bounds)
    while (conversation := read(source)) is not None:
        messages, answers = conversation["messages"], []
        for number, answer, marks in conversation["asked"]:
            _bound_time(bounds["seconds"])
            answers.append(template.answer({"messages": messages[:number], "add_generation_prompt": answer}, marks))
            _bound_time(0)
        write(sys.stdout.buffer, answers)


class _Template:
    """A template that is compiled when it is first asked for, and again until that succeeds."""

    def __init__(self, bounds: dict[str, Any]) -> None:
        self._bounds = bounds
        self._compiled: Any = None

    def answer(self, given: dict[str, Any], marks: list[str]) -> dict[str, str]:
        """The text that the template writes, or why it writes none."""
        from jinja2 import TemplateError

        try:
            self._compiled = self._compiled or _environment().from_string(self._bounds["source"])
            self._compiled.environment.marks = marks
            return {"text": _rendered(self._compiled, given, self._bounds["output"])}
        except RefusedError as error:
            return {"refused": str(error)}
        except OutputError:
            return {"error": f"it writes more than {self._bounds['output']:,} characters"}
        except MemoryError:
            return {"error": f"it takes more than {self._bounds['memory'] // 2**20:,} MiB of memory"}
        except Exception as error:  # A template is a program of somebody else's.
            return {"broken" if isinstance(error, TemplateError) and not self._compiled else "error": str(error)[:1000]}


def _environment() -> Any:
    """As Hugging Face's tokenizers set it up."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _generation()]
    )
    environment.globals["raise_exception"] = _refuse
    environment.filters["tojson"] = _as_json
    return environment


def _generation() -> Any:
    """The tag `{% generation %}`, which encloses what the model writes; what it encloses stands between two marks."""
    from jinja2.ext import Extension
    from jinja2.nodes import CallBlock

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return CallBlock(self.call_method("_between_marks"), [], [], body).set_lineno(line)

        def _between_marks(self, caller: Any) -> str:
            begin, end = self.environment.marks  # type: ignore[attr-defined]
            return f"{begin}{caller()}{end}"

    return Generation


def _refuse(message: str) -> None:
    raise RefusedError(message)


def _as_json(value: Any, indent: int | None = None) -> str:
    # Jinja's own escapes what HTML would take for its own, and spells out what is not ASCII.
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _rendered(template: Any, given: dict[str, Any], most: int) -> str:
    parts, size = [], 0
    for part in template.generate(**given):
        parts.append(part)
        if (size := size + len(part)) > most:
            raise OutputError
    return "".join(parts)


def _bound_time(seconds: float) -> None:
    """End this process after so many seconds of a processor; the signal kills, whatever Python is busy with."""
    with contextlib.suppress(AttributeError):  # Windows has none; the parent's clock bounds it there.
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _bound_memory(size: int) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):  # Not every system has such a limit.
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
