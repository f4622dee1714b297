"""`quoth merge` makes a complete run of a base and adapters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from quoth.cli.arguments import parse
from quoth.cli.output import console, print_json, warn


@dataclass
class Arguments:
    """Add a run's adapters to the weights of its base, and write a complete run that needs the base no longer.

    The sum is taken in float32. The run can be sampled, served, tuned and exported like any other.

    Attributes:
        run: a run that trained adapters: its folder, its name, or latest; or RUN+ADAPTER.
        out: the new run's folder; runs/<date>-merge-<name> when left out.
        checkpoint: which checkpoint to merge: best or last.
        json: print one JSON object on stdout.
    """

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="[RUN]")]] = "latest"
    out: Annotated[str | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    checkpoint: Literal["best", "last"] = "best"
    json: bool = False


def main(arguments: list[str], started: float) -> None:
    a = parse(Arguments, arguments, "merge")

    from quoth.recipes.imported import merge_run

    run, model = merge_run(a.run, a.checkpoint, a.out, warn)
    if a.json:
        print_json({"run": run.name, "folder": str(run), "parameters": model.parameters_count})
        return
    screen = console(False)
    screen.print(f"The complete run is in {run}. Let it write:", markup=False)
    screen.print(f'  quoth sample {run.name} --prompt "..."', style="dim", markup=False)
