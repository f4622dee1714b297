"""Two trainings at once against one alone, with threads that wait as quoth has them and as the library's default."""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.common import Report, Table, middle, ratio, say, spread
from benchmarks.training import add_train_flags, fresh_caches, shape_flags, steady_rate, train, undisturbed
from quoth.system.openmp import SPINS

# GNU OpenMP's own number of spins.
DEFAULT = 300_000


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shape", default="4x192x128x32", metavar="SHAPE", help="layers x width x context x windows")
    parser.add_argument("--repeats", type=int, default=3, help="in turn")
    parser.add_argument("--steps", type=int, default=200, help="of a run, the first --warmup not counted")
    parser.add_argument("--warmup", type=int, default=20)
    parser.add_argument("--spins", nargs="+", type=int, default=[SPINS, DEFAULT], help="before a waiting thread sleeps")
    add_train_flags(parser)


def run(options: argparse.Namespace) -> Report:
    flags = [*shape_flags(options.shape), *undisturbed(options.steps), "--compile", "on", *options.train_flags]
    alone: dict[int, list[float]] = {spins: [] for spins in options.spins}
    both: dict[int, list[float]] = {spins: [] for spins in options.spins}
    with fresh_caches() as caches:
        train(flags, caches)  # Compiles for all.
        for turn in range(options.repeats):
            for spins in options.spins:
                say(f"{spins:,} spins, {turn + 1} of {options.repeats}")

                def once(delay: float, spins: int = spins) -> float:
                    time.sleep(delay)
                    done = train(flags, caches, GOMP_SPINCOUNT=str(spins))
                    return steady_rate(done.metrics, options.warmup)

                alone[spins].append(once(0.0))
                with ThreadPoolExecutor(2) as pool:
                    both[spins].append(sum(pool.map(once, (0.0, 0.5))))
    table = Table("Tokens per second", ["spins", "one alone", "two together", "of one alone"])
    for spins in options.spins:
        share = ratio(middle(both[spins]), middle(alone[spins]))
        table.rows.append([f"{spins:,}", spread(alone[spins], 0), spread(both[spins], 0), share])
    notes = [f"{options.shape}; steps {options.warmup} to {options.steps} of each; two begin half a second apart."]
    if DEFAULT in alone:
        others = [spins for spins in alone if spins != DEFAULT]
        shares = ", ".join(f"{ratio(middle(alone[s]), middle(alone[DEFAULT]))} with {s:,}" for s in others)
        notes.append(f"One alone, of the default's: {shares}.")
    return Report([table], {"alone": alone, "both": both}, notes)
