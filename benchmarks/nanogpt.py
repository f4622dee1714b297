"""Against a checkout of nanoGPT, on a CPU: tokens per second at the same shape, and time to a loss."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, Report, Table, middle, ratio, say, spread
from benchmarks.process import run as run_command
from benchmarks.training import Training, add_train_flags, fresh_caches, steady_rate, train, undisturbed
from quoth.system.errors import InputError

# The command of nanoGPT's README for a computer without a GPU; what it says of the number of steps is added below.
README_FLAGS = shlex.split(
    "config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 --log_interval=1 --block_size=64 "
    "--batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --dropout=0.0"
)
TOKENS_PER_STEP = 12 * 64
SAME_SHAPE = shlex.split("--layers 4 --width 128 --heads 4 --context 64 --batch 12 --accumulate 1 --dropout 0")
OURS = {
    "quoth, preset nanogpt-cpu": ["--preset", "nanogpt-cpu"],
    "quoth, modern of the same shape": ["--preset", "laptop", *SAME_SHAPE],
}
WORKER = [sys.executable, "-m", "benchmarks.nanogpt_worker"]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nanogpt", type=Path, required=True, metavar="PATH", help="a checkout, which is copied")
    parser.add_argument("--part", choices=("speed", "recipe", "both"), default="both")
    parser.add_argument("--repeats", type=int, default=3, help="of the speed, in turn")
    parser.add_argument("--steps", type=int, default=600, help="of a speed run, the first --warmup not counted")
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--recipe-repeats", type=int, default=1, help="of the whole recipe and of time to its loss")
    parser.add_argument("--recipe-steps", type=int, default=2000, help="other than 2000: only to try this script out")
    parser.add_argument(
        "--known", type=float, nargs=2, metavar=("LOSS", "SECONDS"), help="of nanoGPT's recipe, instead of running it"
    )
    parser.add_argument("--preset", default="laptop", help="of the run that is timed to nanoGPT's loss")
    parser.add_argument("--evaluate-every", type=int, default=0, help="steps, for that run; 0: as it does by itself")
    parser.add_argument("--seed", type=int, default=1337, help="of that run; each repeat takes the next")
    add_train_flags(parser)


def run(options: argparse.Namespace) -> Report:
    report = Report([], {}, [])
    with copied(options.nanogpt) as copy:
        if options.part != "recipe":
            _speed(options, copy, report)
        if options.part != "speed":
            _recipe(options, copy, report)
    return report


@contextmanager
def copied(checkout: Path) -> Iterator[Path]:
    """A temporary copy of the checkout, with Tiny Shakespeare from quoth where nanoGPT looks for it.

    Raises:
        InputError: it is no checkout of nanoGPT.
    """
    if not (checkout / "train.py").is_file() or not (checkout / "config/train_shakespeare_char.py").is_file():
        raise InputError(f"{checkout} is no checkout of nanoGPT: it has no train.py, or no config for Shakespeare.")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "nanoGPT"
        shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git", "assets", "out*", "*.bin", "meta.pkl"))
        (copy / "data/shakespeare_char").mkdir(parents=True, exist_ok=True)
        run_command([*WORKER, "prepare", str(copy / "data/shakespeare_char")], cwd=ROOT)
        yield copy


def _speed(options: argparse.Namespace, copy: Path, report: Report) -> None:
    hardware: dict[str, str] = {}
    rates: dict[str, list[float]] = {name: [] for name in ("nanoGPT", *OURS)}
    flags = [f"--max_iters={options.steps}", "--lr_decay_iters=2000", "--eval_interval=1000000", "--eval_iters=1"]
    with fresh_caches() as caches:
        for turn in range(options.repeats):
            say(f"speed, turn {turn + 1} of {options.repeats}")
            finished = run_command([sys.executable, "train.py", *README_FLAGS, *flags], cwd=copy)
            rates["nanoGPT"].append(rate_of(finished.output, options.warmup))
            for name, preset in OURS.items():
                result = train([*preset, *undisturbed(options.steps)], caches)
                rates[name].append(steady_rate(result.metrics, options.warmup))
                hardware[name] = result.hardware
    table = Table("Tokens per second, 4 layers of width 128, 12 windows of 64", ["", "tokens/s", "of nanoGPT's"])
    first = middle(rates["nanoGPT"])
    for name, values in rates.items():
        table.rows.append([name, spread(values, 0), ratio(middle(values), first)])
    report.tables.append(table)
    report.values["tokens_per_second"] = rates
    report.notes.append(
        f"Speed: steps {options.warmup} to {options.steps} by each program's own log, {options.repeats} times in turn; "
        "nanoGPT as its README runs it on a CPU (float32, not compiled); "
        + "; ".join(f"{name}: {how}" for name, how in hardware.items())
        + "."
    )


def rate_of(log: str, warmup: int) -> float:
    """Tokens per second of nanoGPT's log lines from iteration `warmup` on.

    >>> rate_of("iter 0: loss 4.2, time 900.00ms, mfu -100.00%\\niter 1: loss 4.2, time 768.00ms, mfu 1%", 1)
    1000.0
    """
    found = re.findall(r"^iter (\d+): loss \S+ time ([\d.]+)ms", log, re.MULTILINE)
    times = [float(ms) / 1000 for number, ms in found if int(number) >= warmup]
    if not times:
        raise InputError(f"nanoGPT logged no iteration from {warmup} on.")
    return TOKENS_PER_STEP * len(times) / sum(times)


def _recipe(options: argparse.Namespace, copy: Path, report: Report) -> None:
    theirs: list[dict[str, Any]] = []
    ours: dict[str, list[Training]] = {"cold": [], "warm": []}
    flags = ["--preset", options.preset, *options.train_flags]
    if options.evaluate_every:
        flags += ["--evaluate-every", str(options.evaluate_every)]
    for turn in range(options.recipe_repeats):
        if not options.known:
            say(f"nanoGPT's recipe, {turn + 1} of {options.recipe_repeats}")
            theirs.append(_their_recipe(copy, options.recipe_steps))
        with fresh_caches() as caches:
            for state, runs in ours.items():
                say(f"quoth with {state} caches, {turn + 1} of {options.recipe_repeats}")
                runs.append(train([*flags, "--seed", str(options.seed + turn)], caches))
    known = dict(zip(("loss", "seconds"), options.known or (), strict=False))
    target = known.get("loss") or middle(r["loss"] for r in theirs)
    whole = known.get("seconds") or middle(r["seconds"] for r in theirs)
    assert target is not None
    table = Table(
        f"Time to a validation loss of {target:.4f}",
        ["", "seconds to it", "of nanoGPT's time", "whole command, s", "loss at its end"],
    )
    table.rows.append(["nanoGPT's recipe for a CPU", f"{whole:.1f}", "1", f"{whole:.1f}", f"{target:.4f}"])
    times = {state: [r.seconds_to(target) for r in runs] for state, runs in ours.items()}
    for state, runs in ours.items():
        ends = spread((r.summary["validation_loss"] for r in runs), 4)
        share = ratio(middle(times[state]), whole, 3)
        seconds = spread(r.finished.seconds for r in runs)
        table.rows.append([f"quoth train, {state} caches", spread(times[state]), share, seconds, ends])
    report.tables.append(table)
    report.values["recipe"] = {
        "target": target,
        "nanogpt": theirs or known,
        "flags": flags,
        "seconds_to_target": times,
        "summaries": {state: [r.summary for r in runs] for state, runs in ours.items()},
    }
    said = ", ".join(f"{r['said']}" for r in theirs if r["said"])
    report.notes += [
        f"Times are from the command on. Both losses are exact, over the whole validation split in windows of each "
        f"model's own context; nanoGPT's is that of the checkpoint it kept{f' (it said: {said})' if said else ''}.",
        f"quoth ran as `quoth train {' '.join(flags)}`, shape {ours['cold'][0].shape}, {ours['cold'][0].hardware}.",
    ]


def _their_recipe(copy: Path, steps: int) -> dict[str, Any]:
    """nanoGPT's recipe from command to end, its checkpoint's exact loss, and the last loss that it estimated."""
    out = copy / "out-shakespeare-char"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "train.py", *README_FLAGS, f"--max_iters={steps}", f"--lr_decay_iters={steps}"]
    finished = run_command(command, cwd=copy)
    if not (out / "ckpt.pt").exists():
        raise InputError("nanoGPT kept no checkpoint; it does so every 250 steps.")
    exact = json.loads(run_command([*WORKER, "loss", str(copy)], cwd=ROOT).output)
    estimates = re.findall(r"^step (\d+): .*val loss ([\d.]+)", finished.output, re.MULTILINE)
    said = "step {}: {}".format(*estimates[-1]) if estimates else ""
    return {"seconds": finished.seconds, "said": said, "peak_mb": finished.peak_mb, **exact}
