"""What `quoth plan` says of shapes on this machine, against what training them takes."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from benchmarks.common import Report, Table, say
from benchmarks.process import run as run_process
from benchmarks.training import add_train_flags, cache_variables, fresh_caches, shape_flags, train, undisturbed

SHAPES = ["2x128x128x16", "4x192x128x32", "4x256x128x16", "5x256x256x16", "6x320x256x8", "4x384x256x16"]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="SHAPE")
    parser.add_argument("--steps", type=int, default=150, help="of the run that a plan is held against")
    parser.add_argument("--warmup", type=int, default=30, help="of them not counted")
    add_train_flags(parser)


def run(options: argparse.Namespace) -> Report:
    columns = ["shape", "planned ms a step", "took", "planned over it", "planned MB", "held", "planned over it"]
    table, values = Table("", columns), {}
    for shape in options.shapes:
        say(f"{shape}: the plan")
        flags = [*shape_flags(shape), *options.train_flags]
        with fresh_caches() as caches:
            command = [sys.executable, "-m", "quoth", "plan", "laptop", *flags, "--steps", str(options.steps), "--json"]
            planned: dict[str, Any] = json.loads(run_process(command, env=cache_variables(caches)).output)
            say(f"{shape}: the run")
            made = train([*flags, *undisturbed(options.steps)], caches)
        logged = [m for m in made.metrics if "loss" in m and m["step"] >= options.warmup]
        first, last = logged[0], logged[-1]
        took = (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])
        held = made.summary["peak_bytes"]
        seconds, memory = planned["step_seconds"] / took, planned["memory_bytes"] / held
        table.rows.append(
            [
                shape,
                *(f"{1000 * planned['step_seconds']:.1f}", f"{1000 * took:.1f}", f"{seconds:.2f}x"),
                *(f"{planned['memory_bytes'] / 1e6:,.0f}", f"{held / 1e6:,.0f}", f"{memory:.2f}x"),
            ]
        )
        values[shape] = {"step_seconds": seconds, "memory": memory}
    return Report([table], {"over": values}, ["Shapes are layers x width x context x windows a step."])
