"""A static table of commands, so that help costs nothing and a command imports only what it needs."""

from __future__ import annotations

import os
import sys
import time
from importlib import import_module
from io import TextIOWrapper
from typing import Any

from quoth.system.errors import InputError, is_out_of_memory, refused, suggestion
from quoth.system.openmp import sleep_soon

COMMANDS = {
    "train": "train a GPT on a text; three minutes on Shakespeare by default",
    "launch": "train with several processes, on one machine or many",
    "sample": "let a run write",
    "chat": "talk to a run in the terminal",
    "serve": "let programs and browsers talk to runs, by OpenAI's API",
    "export": "write a run as transformers, llama.cpp or Ollama load it",
    "import": "make a run of a GPT-2, Llama or Qwen of somebody else's",
    "eval": "the exact loss over the whole validation split, or over a file",
    "data": "explore a text: size, alphabet, split, tokens, first lines",
    "ladder": "climb the lecture's ladder, from a bigram to a GPT",
    "explain": "run one idea of the lecture, and see its tensors",
    "exercise": "exercises on the lecture, and a checker that names mistakes",
    "config": "print every value of a preset, and where it came from",
    "plan": "what a run will take: FLOPs, memory, time, cost",
    "runs": "list the runs so far, best first",
    "verify": "check that what a run has saved is as it was saved",
    "doctor": "what this machine is best used with, and why",
    "completion": "print a completion script for bash, zsh or fish",
}

# Commands whose names Python has taken for itself.
MODULES = {"eval": "evaluate", "import": "importing"}

HELP = f"""quoth: a GPT from scratch, from a text file to a model that talks back.

usage: quoth COMMAND [OPTIONS]

{chr(10).join(f"  {name:<12}{what}" for name, what in COMMANDS.items())}

  quoth train                          three minutes on Tiny Shakespeare
  quoth train mybook.txt --minutes 10  on your text; the time decides the rest
  quoth sample latest --prompt "Once"  let the newest run write
  quoth serve latest                   a page to play with it, and OpenAI's API

`quoth COMMAND --help` lists a command's options. Every command takes --json.
"""

OUT_OF_MEMORY = "Memory ran out; ask for less at once, or close other programs. What was saved before is kept."


def dispatch(arguments: list[str]) -> int:
    """Run a command. Its exit code: 0, 1 where a check says no, 2 after a sentence on bad input, 130 after Ctrl-C.

    A training that SIGTERM ended says 143.
    """
    started = time.monotonic()
    sleep_soon()
    for stream in (sys.stdout, sys.stderr):
        # A character that a terminal's encoding lacks must not end a run.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if arguments in ([], ["-h"], ["--help"], ["help"]):
        print(HELP, end="")
        return 0
    if arguments[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"quoth {version('quoth')}")
        return 0
    name, *rest = asking_for_help(arguments)
    try:
        if name not in COMMANDS:
            raise InputError(f"There is no command {name!r}{suggestion(name, COMMANDS)}.")
        result = import_module(module_of(name)).main(rest, started)
        sys.stdout.flush()
        return int(result or 0)
    except InputError as error:
        print(f"quoth: {error}", file=sys.stderr)
        return 2 if error.worth_another_try else refused()
    except KeyboardInterrupt:
        print("quoth: interrupted", file=sys.stderr)
        return 130
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print(f"quoth: {OUT_OF_MEMORY}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        _close_stdout()  # The reader has what it wanted.
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"quoth: {where}{error.strerror or error}.", file=sys.stderr)
        _close_stdout()
        return 2


def asking_for_help(arguments: list[str]) -> list[str]:
    """`quoth help COMMAND` and `quoth COMMAND help` as `quoth COMMAND --help`, unless a file or a run is named help."""
    if arguments[0] in ("-h", "--help", "help"):
        return [arguments[1], "--help"]
    if arguments[1:] == ["help"] and not any(os.path.exists(place) for place in ("help", os.path.join("runs", "help"))):
        return [arguments[0], "--help"]
    return arguments


def module_of(command: str) -> str:
    """The module whose `main` is the command."""
    return f"quoth.cli.{MODULES.get(command, command)}"


def arguments_of(command: str) -> type:
    """The dataclass that a command parses."""
    module: Any = import_module(module_of(command))
    kind: type = module.Arguments if hasattr(module, "Arguments") else module.arguments_class()
    return kind


def _close_stdout() -> None:
    """Where stdout takes no more, let Python not complain once more at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
