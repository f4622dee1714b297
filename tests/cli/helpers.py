"""What tests of the command line share."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

WORDS = ["the", "king", "and", "queen", "of", "sea", "love", "night", "day", "hath", "speak", "thou", "art", "sweet"]
SHAPE = ["--layers", "1", "--width", "32", "--context", "32", "--batch", "4"]
MACHINE = ["--device", "cpu", "--compile", "off", "--threads", "1", "--dtype", "float32"]
TINY = [*SHAPE, *MACHINE, "--steps", "6", "--sample-tokens", "20"]


@dataclass(frozen=True)
class Result:
    """What a command did."""

    code: int
    out: str
    err: str


Quoth = Callable[..., Result]


def write_text(path: Path, characters: int = 20_000) -> Path:
    rng = random.Random(0)
    lines = (" ".join(rng.choices(WORDS, k=8)) + ".\n" for _ in range(characters // 30))
    path.write_text("".join(lines)[:characters], encoding="utf-8")
    return path


def start_process(*arguments: str, stdout: int | IO[str] = subprocess.PIPE, **variables: str) -> subprocess.Popen[str]:
    """Run a command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "quoth", *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Every file, to see that nothing was lost and nothing was left."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
