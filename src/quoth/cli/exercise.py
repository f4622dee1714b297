"""`quoth exercise`: what to write, and what was wrong with it."""

from __future__ import annotations

import re
import runpy
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import print_json

NAMED = re.compile(r"^# exercise: *([\w-]+)", re.MULTILINE)


@dataclass
class Arguments:
    """Exercises on the lecture. Without a name, list them; with one, print a file to begin with; or check a file.

    Attributes:
        name: an exercise, such as attention-2; or `check`.
        file: what to check: a file that begins with `# exercise: NAME` and has the function.
        json: one JSON object on stdout.
    """

    name: tyro.conf.Positional[Annotated[str | None, tyro.conf.arg(metavar="[NAME]", help_behavior_hint="")]] = None
    file: tyro.conf.Positional[Annotated[str | None, tyro.conf.arg(metavar="[FILE]", help_behavior_hint="")]] = None
    json: bool = False


def main(arguments: list[str], started: float) -> int:
    a = parse(Arguments, arguments, "exercise")

    from quoth.ladder.exercises import exercises, named
    from quoth.system.errors import InputError

    if a.name == "check":
        if not a.file:
            raise InputError("`quoth exercise check` needs FILE.")
        name, mistake = check(Path(a.file).expanduser())
        if a.json:
            print_json({"exercise": name, "right": mistake is None, "mistake": mistake})
        else:
            print(f"{name}: right." if mistake is None else f"{name}: {mistake}")
        return 0 if mistake is None else 1
    if a.file:
        raise InputError(
            f"`quoth exercise {a.name}` has no use for {a.file!r}; `quoth exercise check FILE` checks a file."
        )
    if a.name:
        beginning = f"# exercise: {a.name}\n{named(a.name).beginning}"
        print_json({"exercise": a.name, "file": beginning}) if a.json else print(beginning, end="")
        return 0
    tasks = {name: known.task for name, known in exercises().items()}
    if a.json:
        print_json({"exercises": tasks})
    else:
        print("\n".join(f"{name:<16}{' '.join(task.split())}" for name, task in tasks.items()))
    return 0


def check(file: Path) -> tuple[str, str | None]:
    """The file's exercise, and the mistake that is in it, or None.

    Raises:
        InputError: the file cannot be read or run, or says nothing of an exercise.
    """
    from quoth.ladder.exercises import named
    from quoth.ladder.exercises.compare import first_line
    from quoth.system.errors import InputError

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}.") from error
    found = NAMED.search(text)
    if not found:
        raise InputError(f"{file} should begin with `# exercise: NAME`; `quoth exercise` lists the names.")
    known = named(found[1])
    try:
        with redirect_stdout(sys.stderr):  # What it prints is not the answer.
            written: dict[str, Any] = runpy.run_path(str(file))
    except (Exception, SystemExit) as error:
        raise InputError(f"{file} does not run: {first_line(error)}.") from error
    function = written.get(known.right.__name__)
    if not callable(function):
        raise InputError(f"{file} has no function {known.right.__name__}.")
    with redirect_stdout(sys.stderr):
        return found[1], known.judge(function)
