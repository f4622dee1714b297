"""One stream of tokens from the same weights: here, in nanoGPT, in transformers and in llama.cpp."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, Report, Table, middle, ratio, say, spread
from quoth.system.errors import InputError

# Layers x width x context, vocabulary: 1, 10 and 124 million parameters in GPT-2's shape.
SHAPES = {"1M": "5x128x256,65", "10M": "6x384x256,65", "124M": "12x768x1024,50257"}
KINDS = [
    *("quoth f32", "nanoGPT f32", "transformers f32", "llama.cpp f32"),
    *("quoth bf16", "llama.cpp bf16", "quoth int8", "llama.cpp q8_0", "quoth torch f32"),
]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nanogpt", type=Path, required=True, metavar="FOLDER", help="a checkout of nanoGPT")
    parser.add_argument("--sizes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS, metavar="KIND")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="each is tried; the best counts")
    parser.add_argument("--rounds", type=int, default=3, help="each kind once in each, in turn")
    parser.add_argument("--tokens", type=int, default=255)


def run(options: argparse.Namespace) -> Report:
    if not (options.nanogpt / "model.py").is_file():
        raise InputError(f"{options.nanogpt} holds no nanoGPT: there is no model.py.")
    tables, values = [], {}
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            worker("make", folder, SHAPES[size])
            rates = measure(options, Path(folder), size)
            values[size] = rates
            tables.append(table(size, rates))
    notes = [
        f"{options.tokens} tokens after one, temperature 0.8; medians of {options.rounds} rounds in turn, with the "
        "better number of threads for each. llama.cpp is xllamacpp's wheel from PyPI, as it comes.",
    ]
    return Report(tables, {"tokens_per_second": values}, notes)


def measure(options: argparse.Namespace, folder: Path, size: str) -> dict[str, dict[str, list[float]]]:
    """Tokens a second of each kind, by the number of threads."""
    rates: dict[str, dict[str, list[float]]] = {kind: {str(n): [] for n in options.threads} for kind in options.kinds}
    for number in range(options.rounds):
        for kind in options.kinds:
            for threads in options.threads:
                say(f"{size}, round {number + 1}, {kind}, {threads} threads")
                got = worker("run", str(folder), kind, str(threads), str(options.tokens), str(options.nanogpt))
                rates[kind][str(threads)].append(got["tokens_per_second"])
    return rates


def table(size: str, rates: dict[str, dict[str, list[float]]]) -> Table:
    """Each kind's best, and how it stands to ours in the same precision."""
    best = {kind: max(by.items(), key=lambda item: middle(item[1]) or 0.0) for kind, by in rates.items()}
    made = Table(f"{size} parameters ({SHAPES[size]})", ["", "tokens/s", "threads", "quoth against it"])
    for kind, (threads, all_rates) in best.items():
        precision = {"q8_0": "int8"}.get(kind.split()[-1], kind.split()[-1])
        ours = best.get(f"quoth {precision}")
        against = "" if kind.startswith("quoth") or not ours else ratio(middle(ours[1]), middle(all_rates))
        made.rows.append([kind, spread(all_rates, 0), threads, against])
    return made


def worker(*arguments: str) -> dict[str, Any]:
    """What a process of its own says."""
    command = [sys.executable, "-m", "benchmarks.generation_worker", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{' '.join(arguments[:3])} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]
