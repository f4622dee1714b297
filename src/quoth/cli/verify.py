"""`quoth verify`: check whether a run's files are as they were saved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import columns, console, print_json
from quoth.system.words import plural


@dataclass
class Arguments:
    """Check a run's settings, and every file of its checkpoints against the SHA-256 that was saved with it.

    The exit code is 1 where something is broken.

    Attributes:
        run: a run's folder, its name, or latest.
        json: print one JSON object on stdout.
    """

    run: tyro.conf.Positional[str]
    json: bool = False


def main(arguments: list[str], started: float) -> int:
    a = parse(Arguments, arguments, "verify")

    from quoth.train.keeper import checkpoints, snapshots
    from quoth.train.run import find_run

    run = find_run(a.run)
    found, kept = ([check(folder) for folder in reversed(folders)] for folders in (checkpoints(run), snapshots(run)))
    problems = [*record_problems(run), *(problem for one in (*found, *kept) for problem in one["problems"])]
    if not found:
        problems.append("There is no checkpoint yet.")
    if a.json:
        checked = {"checkpoints": found, "snapshots": kept}
        print_json({"run": run.name, "whole": not problems, **checked, "problems": problems})
        return int(bool(problems))
    screen = console(False)
    rows = [_row(one["checkpoint"], [one]) for one in found]
    rows += [_row(plural(len(kept), "snapshot"), kept)] if kept else []
    if rows:
        print("\n".join(columns(rows, {1, 2})))
    for problem in problems:
        screen.print(problem, style="red", markup=False)
    if not problems:
        screen.print("Every file is as it was saved.")
    return int(bool(problems))


def _row(name: str, checked: list[dict[str, Any]]) -> list[str]:
    files, bytes_ = (sum(one[key] for one in checked) for key in ("files", "bytes"))
    state = "broken" if any(one["problems"] for one in checked) else "whole"
    return [name, f"{files} files", f"{bytes_ / 1e6:,.1f} MB", state]


def check(folder: Path) -> dict[str, Any]:
    """What a checkpoint's folder holds, and what is wrong with it."""
    from quoth.train.adapter_checkpoint import base_problems
    from quoth.train.manifest import problems

    files = [file for file in folder.iterdir() if file.is_file()]
    return {
        "checkpoint": folder.name,
        "files": len(files),
        "bytes": sum(file.stat().st_size for file in files),
        "problems": list(problems(folder)) or list(base_problems(folder)),
    }


def record_problems(run: Path) -> Iterator[str]:
    """What is wrong with a run's settings and record: what cannot be read, and numbers that contradict each other."""
    from quoth.recipes.recipe import read_recipe
    from quoth.system.errors import InputError
    from quoth.system.files import read_json
    from quoth.train.keeper import kept_problem
    from quoth.train.run import read_metrics

    for file, read in (
        ("config.toml", lambda: read_recipe(run)),
        ("environment.json", lambda: read_json(run / "environment.json")),
        ("summary.json", lambda: read_json(run / "summary.json")),
    ):
        try:
            if (run / file).exists():
                read()
        except InputError as error:
            yield str(error)
    if problem := kept_problem(run):
        yield problem
    metrics, lines = run / "metrics.jsonl", list(read_metrics(run))
    if metrics.exists() and (spoiled := metrics.read_bytes().count(b"\n") - len(lines)):
        yield f"{metrics} is damaged: {spoiled} of its lines cannot be read."
    yield from contradictions(run, [line["validation_loss"] for line in lines if "validation_loss" in line])


def contradictions(run: Path, losses: list[float]) -> Iterator[str]:
    """Say where the summary's best loss is not the least that was logged: a digit of one of them was changed."""
    from quoth.system.errors import InputError
    from quoth.system.files import read_json

    try:
        best = read_json(run / "summary.json")["validation_loss"]
    except (InputError, KeyError, TypeError):
        return
    if losses and best is not None and min(losses) != best:
        yield f"{run / 'summary.json'} says that the best loss is {best}, but metrics.jsonl that it is {min(losses)}."
