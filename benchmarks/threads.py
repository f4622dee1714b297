"""Tokens per second of training by the number of threads."""

from __future__ import annotations

import argparse
import os

from benchmarks.common import Report, Table, middle, ratio, say, spread
from benchmarks.training import add_train_flags, fresh_caches, shape_flags, steady_rate, train, undisturbed


def arguments(parser: argparse.ArgumentParser) -> None:
    cores = os.cpu_count() or 1
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, 2, cores // 2 or 1, cores}))
    parser.add_argument("--shapes", nargs="+", default=["4x128x64x12", "4x192x128x16", "6x256x128x16"], metavar="SHAPE")
    parser.add_argument("--repeats", type=int, default=3, help="in turn")
    parser.add_argument("--steps", type=int, default=120, help="of a run, the first --warmup not counted")
    parser.add_argument("--warmup", type=int, default=20)
    add_train_flags(parser)


def run(options: argparse.Namespace) -> Report:
    counts = options.threads
    table = Table("Tokens per second", ["shape", *map(str, counts), "most threads over fewest"])
    values = {}
    for shape in options.shapes:
        rates: dict[int, list[float]] = {n: [] for n in counts}
        with fresh_caches() as caches:
            for turn in range(options.repeats):
                for n in counts:
                    say(f"{shape}, {n} thread(s), {turn + 1} of {options.repeats}")
                    flags = [
                        *shape_flags(shape),
                        "--threads",
                        str(n),
                        *undisturbed(options.steps),
                        *options.train_flags,
                    ]
                    rates[n].append(steady_rate(train(flags, caches).metrics, options.warmup))
        table.rows.append(
            [shape, *(spread(r, 0) for r in rates.values()), ratio(middle(rates[counts[-1]]), middle(rates[counts[0]]))]
        )
        values[shape] = rates
    note = f"Shapes are layers x width x context x windows a step; steps {options.warmup} to {options.steps}."
    return Report([table], {"tokens_per_second": values}, [note])
