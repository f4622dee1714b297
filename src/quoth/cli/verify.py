"""`quoth verify`: check whether a run's files are as they were saved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import columns, console, print_json


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

    from quoth.train.keeper import checkpoints
    from quoth.train.run import find_run

    run = find_run(a.run)
    found = [check(folder) for folder in reversed(checkpoints(run))]
    problems = [*settings_problems(run), *(problem for one in found for problem in one["problems"])]
    if not found:
        problems.append("There is no checkpoint yet.")
    if a.json:
        print_json({"run": run.name, "whole": not problems, "checkpoints": found, "problems": problems})
        return int(bool(problems))
    screen = console(False)
    rows = [
        [
            one["checkpoint"],
            f"{one['files']} files",
            f"{one['bytes'] / 1e6:,.1f} MB",
            "broken" if one["problems"] else "whole",
        ]
        for one in found
    ]
    if rows:
        print("\n".join(columns(rows, {1, 2})))
    for problem in problems:
        screen.print(problem, style="red", markup=False)
    if not problems:
        screen.print("Every file is as it was saved.")
    return int(bool(problems))


def check(folder: Path) -> dict[str, Any]:
    """What a checkpoint's folder holds, and what is wrong with it."""
    from quoth.train.manifest import problems

    files = [file for file in folder.iterdir() if file.is_file()]
    return {
        "checkpoint": folder.name,
        "files": len(files),
        "bytes": sum(file.stat().st_size for file in files),
        "problems": list(problems(folder)),
    }


def settings_problems(run: Path) -> Iterator[str]:
    """What is wrong with a run's config.toml."""
    from quoth.recipes.recipe import read_recipe
    from quoth.system.errors import InputError

    try:
        read_recipe(run)
    except InputError as error:
        yield str(error)
