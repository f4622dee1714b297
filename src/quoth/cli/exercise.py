"""`quoth exercise`: what to write, and what was wrong with it."""

from __future__ import annotations

import csv
import dataclasses
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import columns, print_json, warn

if TYPE_CHECKING:
    from quoth.ladder.checker.check import Verdict

# Of what a learner's file prints, so many characters are shown.
SHOWN = 2000
COLUMNS = ("file", "exercise", "right", "mistake", "seconds")


@dataclass
class Arguments:
    """Exercises on the lecture. Without a name, list them; with one, print a file to begin with; or check a file.

    Attributes:
        name: an exercise, such as attention-2; or `check`.
        file: what to check: a file that begins with `# exercise: NAME` and has the function, or a folder of such files.
        hint: with NAME: what kind of result is wanted, and a mistake to look for; one more after each try.
        solution: with NAME: a right function, once you have tried.
        csv: with `check`: a row for each file: the exercise, whether it is right, the mistake, and the seconds taken.
        json: one JSON object on stdout.
    """

    name: tyro.conf.Positional[Annotated[str | None, tyro.conf.arg(metavar="[NAME]", help_behavior_hint="")]] = None
    file: tyro.conf.Positional[Annotated[str | None, tyro.conf.arg(metavar="[FILE]", help_behavior_hint="")]] = None
    hint: bool = False
    solution: bool = False
    csv: bool = False
    json: bool = False


def main(arguments: list[str], started: float) -> int:
    a = parse(Arguments, arguments, "exercise")

    from quoth.system.errors import InputError

    if a.csv and a.json:
        raise InputError("--csv and --json are two forms of one answer; give one of them.")
    if a.hint and a.solution:
        raise InputError("--hint and --solution are two answers; give one of them.")
    if a.name == "check":
        if not a.file:
            raise InputError("`quoth exercise check` needs FILE.")
        if a.hint or a.solution:
            raise InputError(f"`quoth exercise NAME --{'hint' if a.hint else 'solution'}` takes an exercise's name.")
        path = Path(a.file).expanduser()
        return check_class(path, a) if path.is_dir() or a.csv else check_one(path, as_json=a.json)
    if a.file:
        raise InputError(
            f"`quoth exercise {a.name}` has no use for {a.file!r}; `quoth exercise check FILE` checks a file."
        )
    if a.csv:
        raise InputError("--csv goes with `quoth exercise check FOLDER`.")
    if not a.name and (a.hint or a.solution):
        raise InputError(f"--{'hint' if a.hint else 'solution'} needs the NAME of an exercise.")
    return show(a) if a.name else list_all(as_json=a.json)


def list_all(*, as_json: bool) -> int:
    from quoth.ladder.exercises import exercises

    tasks = {name: known.task for name, known in exercises().items()}
    if as_json:
        print_json({"exercises": tasks})
    else:
        print("\n".join(columns([[name, " ".join(task.split())] for name, task in tasks.items()])))
    return 0


def show(a: Arguments) -> int:
    """Print the file to begin with, a hint, or the solution."""
    from quoth.ladder.checker.solution import solution
    from quoth.ladder.checker.tries import need_a_try, tries
    from quoth.ladder.exercises import named

    assert a.name
    known = named(a.name)
    if a.hint:
        what, text = "hint", known.hint(tries(a.name))
    elif a.solution:
        need_a_try(a.name)
        what, text = "solution", f"# exercise: {a.name}\n{solution(known)}"
    else:
        what, text = "file", f"# exercise: {a.name}\n{known.beginning}"
    print_json({"exercise": a.name, what: text}) if a.json else print(text, end="")
    return 0


def check_one(file: Path, *, as_json: bool) -> int:
    from quoth.ladder.checker.check import check
    from quoth.system.errors import InputError

    verdict = check(file)
    if verdict.printed:
        cut = verdict.printed[:SHOWN]
        print(cut if cut == verdict.printed else f"{cut}...", end="" if cut.endswith("\n") else "\n", file=sys.stderr)
    if not verdict.ran:
        raise InputError(str(verdict.mistake))
    count(verdict)
    if as_json:
        print_json({"exercise": verdict.exercise, "right": verdict.right, "mistake": verdict.mistake})
    else:
        print(f"{verdict.exercise}: {verdict.mistake or 'right.'}")
    return 0 if verdict.right else 1


def check_class(path: Path, a: Arguments) -> int:
    """Check every file of a folder; the exit code is 0 where all are right, else 1."""
    from quoth.ladder.checker.check import check_all, files_in

    verdicts = check_all(files_in(path) if path.is_dir() else [path])
    if a.json:
        rows = [row(verdict) for verdict in verdicts]
        print_json({"files": rows})
        return 0 if all(r["right"] for r in rows) else 1
    return print_rows(verdicts) if a.csv else print_lines(verdicts)


def print_rows(verdicts: Iterable[Verdict]) -> int:
    """Print CSV, each row when its file and those before it are checked."""
    table = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    table.writeheader()
    wrong = 0
    for verdict in verdicts:
        wrong += not verdict.right
        table.writerow(row(verdict) | {"right": str(verdict.right).lower()})
        sys.stdout.flush()
    return 1 if wrong else 0


def print_lines(verdicts: Iterable[Verdict]) -> int:
    right = total = 0
    for verdict in verdicts:
        right, total = right + verdict.right, total + 1
        exercise = f"{verdict.exercise}: " if verdict.exercise else ""
        print(f"{verdict.file}: {exercise}{verdict.mistake or 'right.'}", flush=True)
    print(f"{right} of {total} are right.")
    return 0 if right == total else 1


def row(verdict: Verdict) -> dict[str, Any]:
    facts = dataclasses.asdict(verdict) | {"file": str(verdict.file), "right": verdict.right}
    return {name: round(facts[name], 1) if name == "seconds" else facts[name] for name in COLUMNS}


def count(verdict: Verdict) -> None:
    """Count the try, on which hints and the solution depend; the verdict is told whether that can be kept or not."""
    from quoth.ladder.checker.tries import count_try
    from quoth.system.errors import InputError

    try:
        count_try(verdict.exercise)
    except InputError as error:
        warn(str(error))
