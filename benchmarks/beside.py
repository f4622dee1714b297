"""Two trainings at once against one alone, with threads that wait as quoth has them and as the library's default."""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.common import Report, Table, middle, ratio, say, spread
from benchmarks.training import add_train_flags, fresh_caches, shape_flags, steady_rate, train, undisturbed

# GNU OpenMP's own number of spins.
WAYS = {"quoth": {}, "default": {"GOMP_SPINCOUNT": "300000"}}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shape", default="4x192x128x32", metavar="SHAPE", help="layers x width x context x windows")
    parser.add_argument("--repeats", type=int, default=3, help="in turn")
    parser.add_argument("--steps", type=int, default=200, help="of a run, the first --warmup not counted")
    parser.add_argument("--warmup", type=int, default=20)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    add_train_flags(parser)


def run(options: argparse.Namespace) -> Report:
    flags = [*shape_flags(options.shape), *undisturbed(options.steps), "--compile", "on", *options.train_flags]
    alone: dict[str, list[float]] = {way: [] for way in options.ways}
    both: dict[str, list[float]] = {way: [] for way in options.ways}
    with fresh_caches() as caches:
        train(flags, caches)  # Compiles for all.
        for turn in range(options.repeats):
            for way in options.ways:
                say(f"{way}, {turn + 1} of {options.repeats}")

                def once(delay: float, way: str = way) -> float:
                    time.sleep(delay)
                    return steady_rate(train(flags, caches, **WAYS[way]).metrics, options.warmup)

                alone[way].append(once(0.0))
                with ThreadPoolExecutor(2) as pool:
                    both[way].append(sum(pool.map(once, (0.0, 0.5))))
    table = Table("Tokens per second", ["threads wait as", "one alone", "two together", "of one alone"])
    for way in options.ways:
        share = ratio(middle(both[way]), middle(alone[way]))
        table.rows.append([way, spread(alone[way], 0), spread(both[way], 0), share])
    notes = [f"{options.shape}; steps {options.warmup} to {options.steps} of each; two begin half a second apart."]
    if {"quoth", "default"} <= alone.keys():
        notes.append(f"One alone: {ratio(middle(alone['quoth']), middle(alone['default']))} of the default's.")
    return Report([table], {"alone": alone, "both": both}, notes)
