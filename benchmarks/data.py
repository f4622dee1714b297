"""Tokenizing a large file and training from it: speed, and memory that should not grow with the file."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, Report, Table, say
from benchmarks.process import Finished
from benchmarks.process import run as run_command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gigabytes", type=float, default=2.0, help="of text; thrice as much is needed on the disk")
    parser.add_argument(
        "--tokenizers", nargs="+", default=["characters", "bytes"], metavar="NAME", help="also bpe:1024, for one"
    )
    parser.add_argument("--folder", type=Path, help="where to write; the system's folder for such when left out")


def run(options: argparse.Namespace) -> Report:
    made = Table("Tokenizing", ["tokenizer", "seconds", "MB/s", "tokens", "peak memory, MB", "of which before it, MB"])
    trained = Table(
        "20 steps from the memory map", ["tokenizer", "private memory, MB", "it grew by, MB", "file pages grew by, MB"]
    )
    values: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        say(f"writing {options.gigabytes:g} GB")
        text = Path(folder) / "large.txt"
        size = write_text(text, int(options.gigabytes * 1e9))
        for name in options.tokenizers:
            say(name)
            with tempfile.TemporaryDirectory(dir=folder) as caches:
                first, tokenized = _worker("tokenize", text, name, caches)
                second, steps = _worker("train", text, name, caches)
            rate = size / 1e6 / tokenized["seconds"]
            mb = [f"{first.peak_mb:,.0f}", f"{tokenized['before_mb']:,.0f}"]
            made.rows.append([name, f"{tokenized['seconds']:.1f}", f"{rate:.1f}", f"{tokenized['tokens']:,}", *mb])
            growth = [f"{steps[key]:,.1f}" for key in ("private_mb", "private_growth_mb", "file_growth_mb")]
            trained.rows.append([name, *growth])
            values[name] = {**tokenized, **steps, "peak_mb": first.peak_mb, "train_peak_mb": second.peak_mb}
    notes = [
        f"A file of {size / 1e9:.2f} GB, the plays' lines shuffled again and again. Seconds are those of `corpus()`: "
        "hashing, counting, tokenizing, writing.",
        "The growth is from after the first step to after the 20th, of a small model that is not compiled. File pages "
        "are the map's: the system takes them back when it needs them.",
    ]
    return Report([made, trained], {"bytes": size, "tokenizers": values}, notes)


def write_text(path: Path, size: int, seed: int = 0) -> int:
    """Write about `size` bytes of shuffled lines of the plays; exactly how many, it returns."""
    from quoth.text.sources import materialise

    lines = materialise("plays", path.parent / "texts").read_bytes().splitlines(keepends=True)
    rng, written = random.Random(seed), 0
    with path.open("wb") as file:
        while written < size:
            rng.shuffle(lines)
            written += file.write(b"".join(lines)[: size - written])
    return written


def _worker(work: str, text: Path, tokenizer: str, caches: str) -> tuple[Finished, dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.data_worker", work, str(text), tokenizer]
    finished = run_command(command, cwd=ROOT, env={"QUOTH_CACHE": caches})
    return finished, json.loads(finished.output)
