"""The process in which a user's reward function runs: `python -m quoth.tune.reward_child`.

It reads and writes JSON, each preceded by its length in four bytes (`text/render.py`): first it reads where the
function is, then prompts with their answers. It says of each what came of it, and stops at the first that fails.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

from quoth.system.child import bound_memory, failure
from quoth.text.render import read, write


def main() -> None:
    """Answer one question after the other, until the parent has gone."""
    with suppress(AttributeError, ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent.
    # What the function prints must not get between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    questions, where = sys.stdin.buffer, read(sys.stdin.buffer)
    file, seconds = where["file"], where["seconds"]
    bound_memory(where["memory"])
    sys.argv = [file]
    sys.path.append(str(Path(file).parent))  # At the end: a file beside it does not take the place of Python's own.
    try:
        function = runpy.run_path(file).get(where["name"])
    except BaseException as error:
        return write(answers, {"failed": failure(error, file)})
    if not callable(function):
        return write(answers, {"lacks": True})
    write(answers, {"ready": True})
    while (asked := read(questions)) is not None:
        for prompt, answer in zip(asked["prompts"], asked["answers"], strict=True):
            _alarm(seconds)
            found = _reward(function, prompt, answer, file)
            _alarm(0)
            write(answers, found)
            if "reward" not in found:
                break
    return None


def _reward(function: Any, prompt: str, answer: str, file: str) -> dict[str, Any]:
    try:
        got = function(prompt, answer)
        # Numbers of NumPy and torch have __float__, too; a text has none.
        if not hasattr(type(got), "__float__"):
            return {"no_number": " ".join(repr(got).split())[:80]}
        number = float(got)
    except BaseException as error:
        return {"failed": failure(error, file)}
    return {"reward": number} if isfinite(number) else {"no_number": str(number)}


def _alarm(seconds: float) -> None:
    """End this process after so many seconds, should its parent not be there to do so."""
    with suppress(AttributeError):  # Windows has none.
        signal.setitimer(signal.ITIMER_REAL, seconds and seconds + 2)


if __name__ == "__main__":
    main()
    # What the function has left behind, such as threads, must not keep the process.
    os._exit(0)
