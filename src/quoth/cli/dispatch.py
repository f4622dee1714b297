"""A static table of commands, so that `quoth --help` imports nothing, and a command only what it needs."""

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
    "train": "train a GPT on a text; by default on Shakespeare for three minutes",
    "tune": "teach a run's model to answer, by examples or rewards",
    "demo": "from a text to a model that answers as it is liked, step by step",
    "launch": "train or tune with several processes, on one machine or many",
    "sample": "let a run write",
    "chat": "talk to a run in the terminal",
    "serve": "serve runs to programs, by OpenAI's API, and to browsers",
    "studio": "see how a run learned, and what happens inside it",
    "export": "write a run for transformers, vLLM, llama.cpp or Ollama",
    "import": "make a run of another program's GPT-2, Llama or Qwen model",
    "merge": "make a complete run of a base and adapters",
    "eval": "judge a run by what it has not learned, or against another",
    "data": "explore a text: size, alphabet, split, tokens, first lines",
    "ladder": "climb the lecture's ladder, from a bigram to a GPT",
    "explain": "run one idea of the lecture and show its tensors",
    "exercise": "list exercises on the lecture, and check what you wrote",
    "config": "print every value of a preset, and where it came from",
    "plan": "predict what a run will take: FLOPs, memory, time, cost",
    "runs": "list the runs so far, best first",
    "verify": "check every file of a run's checkpoints against its SHA-256",
    "doctor": "show how quoth uses this machine, and why",
    "completion": "print a completion script for bash, zsh or fish",
}

# Modules of commands whose own names Python reserves or uses.
MODULES = {"eval": "evaluate", "import": "importing"}

HELP = f"""quoth: a GPT from scratch, from a text file to a model that talks back.

usage: quoth COMMAND [OPTIONS]

{chr(10).join(f"  {name:<12}{what}" for name, what in COMMANDS.items())}

  quoth train                          train on Tiny Shakespeare, three minutes
  quoth train mybook.txt --minutes 10  on your text; the time decides the rest
  quoth sample latest --prompt "Once"  let the newest run write
  quoth serve latest                   a page to play with it, and OpenAI's API

`quoth COMMAND --help` lists a command's options. Every command takes --json.
"""

OUT_OF_MEMORY = "Memory ran out; ask for less at once, or close other programs. What was saved before is kept."


def dispatch(arguments: list[str]) -> int:
    """Run a command and return its exit code.

    The code is 0 when all went well, 1 where a check found something wrong, 2 after a sentence on bad input, 130 after
    Ctrl-C, and 143 for a training that SIGTERM ended.
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
    """Point a stdout that takes no more at nothing, so that Python does not complain of it when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
