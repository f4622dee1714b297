"""The process in which a learner's file is run: `python -m quoth.ladder.checker.check_child`.

The process appends lines of JSON to a file: first what it is about to do, so that its parent knows where it was when it
was stopped; last what came of it. Whether that is right is for the parent to say, which nothing here can reach.
"""

from __future__ import annotations

import copy
import inspect
import json
import os
import runpy
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch

from quoth.ladder.checker.exercise import Exercise, Function
from quoth.ladder.checker.values import encode
from quoth.ladder.exercises import named
from quoth.system.child import bound_memory, failure

# A seed that nobody sets, so that one that is set can be told.
SEED = 0x51D_0A7B_3C96
Report = Callable[[dict[str, Any]], None]


def main(file: str, name: str, answer: str, seconds: str, memory: str, written: str) -> None:
    """Run the file, call its function, and write to `answer`.

    Args:
        file: what the learner wrote.
        name: the exercise.
        answer: the file for lines of JSON.
        seconds: after these the process ends, should its parent not be there to end it.
        memory: bytes that may be taken on top of what torch takes.
        written: bytes that a file may be long.
    """
    exercise = named(name)
    cases = exercise.cases()  # They are made first, since the file may change torch's settings.
    with open(answer, "a", encoding="utf-8") as lines:

        def report(line: dict[str, Any]) -> None:
            lines.write(json.dumps(line) + "\n")
            lines.flush()

        report({"loads": True})
        limit(float(seconds), int(memory), int(written))
        try:
            sys.argv = [file]
            function = runpy.run_path(file).get(exercise.name)
        except BaseException as error:
            report({"failed": failure(error, file)})
            return
        if callable(function):
            report(attempt(exercise, function, cases, report, file))
        else:
            report({"lacks": exercise.name})


def attempt(
    exercise: Exercise,
    function: Function,
    cases: Sequence[Sequence[Any]],
    report: Report = lambda line: None,
    file: str = "",
) -> dict[str, Any]:
    """Call a function with the arguments of each case.

    Returns:
        `failed`: what was raised; or `got`: the results as `encode` writes them, with `changes`: the name of an
        argument that the function has changed, or None, and `seeds`: whether it has set torch's global seed.
    """
    got, changes = [], None
    torch.manual_seed(SEED)
    names = list(inspect.signature(exercise.right).parameters)
    for number, arguments in enumerate(cases):
        report({"calls": number})
        given, before = copy.deepcopy(arguments), [encode(a) for a in arguments]
        try:
            got.append(encode(function(*given)))
        except BaseException as error:
            return {"failed": failure(error, file)}
        after = (encode(a) for a in given)
        changes = next((n for n, a, b in zip(names, after, before, strict=False) if a != b), changes)
    return {"got": got, "changes": changes, "seeds": torch.initial_seed() != SEED}


def limit(seconds: float, memory: int, written: int) -> None:
    """Bound what this process and those that it starts may take, where the system has such limits."""
    with suppress(AttributeError):  # Windows has no alarm.
        signal.alarm(int(seconds) + 2)
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (written, written))
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 2, int(seconds) + 2))
    bound_memory(memory)


if __name__ == "__main__":
    main(*sys.argv[1:])
    with suppress(Exception):  # The file may have put something else in its place.
        sys.stdout.flush()
    # What the file has left behind, such as threads, must not keep the process.
    os._exit(0)
