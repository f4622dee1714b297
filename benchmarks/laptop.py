"""`quoth train` as a whole, from command to end: time, loss, speed and memory, with cold and with warm caches."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.common import Report, Table, say, shown, spread
from benchmarks.training import Training, add_train_flags, data_argument, fresh_caches, train


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=1, help="each with the next seed")
    parser.add_argument("--preset", default="laptop")
    parser.add_argument("--minutes", type=float, help="instead of the preset's")
    parser.add_argument("--data", default="shakespeare", metavar="NAME", help="a named corpus or a text file")
    parser.add_argument("--seed", type=int, default=1337, help="of the first repeat")
    parser.add_argument("--caches", nargs="+", choices=("cold", "warm"), default=["cold", "warm"])
    add_train_flags(parser)


def run(options: argparse.Namespace) -> Report:
    flags = [data_argument(options.data), "--preset", options.preset, *options.train_flags]
    if options.minutes:
        flags += ["--minutes", f"{options.minutes:g}"]
    runs: dict[str, list[Training]] = {state: [] for state in options.caches}
    for turn in range(options.repeats):
        with fresh_caches() as caches:
            # Warm caches are warmed by the same run, which counts where cold ones were asked for.
            for state in ("cold", "warm")[: 1 + ("warm" in runs)]:
                say(f"{state} caches, {turn + 1} of {options.repeats}")
                result = train([*flags, "--seed", str(options.seed + turn)], caches)
                if state in runs:
                    runs[state].append(result)
    table = Table("", ["caches", *COLUMNS])
    for state, results in runs.items():
        table.rows.append([state, *_cells([numbers(result) for result in results])])
    first = next(iter(runs.values()))[0]
    said = " ".join([shown(options.data), *flags[1:]])
    notes = [
        f"`quoth train {said}`, {first.summary['parameters']:,} parameters, shape {first.shape} (layers x width x "
        f"context x windows a step), {first.settings['family']}, {first.hardware}; {options.repeats} seed(s) from "
        f"{options.seed}.",
        "The loss is in nats per token, exact, over the whole validation split. Memory: the largest process; and all "
        "processes together, the compiler's included.",
    ]
    return Report([table], {"runs": {state: [numbers(r) for r in results] for state, results in runs.items()}}, notes)


COLUMNS = {
    "wall clock, s": ("seconds", 1),
    "validation loss": ("validation_loss", 4),
    "tokens/s": ("tokens_per_second", 0),
    "steps": ("steps", 0),
    "ready to train after, s": ("ready_seconds", 1),
    "peak memory, MB": ("peak_mb", 0),
    "with compiler, MB": ("tree_mb", 0),
}


def numbers(result: Training) -> dict[str, Any]:
    """What is reported of a run."""
    summary = result.summary
    wanted = ("validation_loss", "tokens_per_second", "steps", "parameters", "bits_per_byte", "last_validation_loss")
    begun = next((m["seconds"] for m in result.metrics if m.get("step") == 0 and "validation_loss" in m), 0.0)
    return {
        **{key: summary.get(key) for key in wanted},
        "seconds": round(result.finished.seconds, 2),
        "ready_seconds": round(begun + result.startup, 2),
        "peak_mb": round(result.finished.peak_mb, 1),
        "tree_mb": round(result.finished.tree_mb, 1),
        "seed": result.settings["seed"],
        "shape": result.shape,
        "hardware": result.hardware,
    }


def _cells(results: list[dict[str, Any]]) -> list[str]:
    return [spread((r[key] for r in results), digits) for key, digits in COLUMNS.values()]
