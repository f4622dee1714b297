"""`quoth train` as a command, and what its run folder tells afterwards."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.process import Finished, run
from quoth.system.errors import InputError

NEVER = 10**9


@dataclass(frozen=True)
class Training:
    """A finished run: its summary, the lines of its metrics, its settings and machine, and what the command took."""

    summary: dict[str, Any]
    metrics: list[dict[str, Any]]
    settings: dict[str, Any]
    environment: dict[str, Any]
    finished: Finished

    @property
    def startup(self) -> float:
        """Seconds that the command took outside of what it counts itself: Python's start, and the exit."""
        return max(0.0, self.finished.seconds - float(self.summary["seconds"]))

    def seconds_to(self, target: float) -> float | None:
        """From the command to the end of the first evaluation at or below the loss; the exit counts as start."""
        seconds = first_at(self.metrics, target)
        return None if seconds is None else seconds + self.startup

    @property
    def shape(self) -> str:
        """Layers, width, context and windows a step."""
        s = self.settings
        return f"{s['layers']}x{s['width']}x{s['context']}x{s['batch'] * s['accumulate']}"

    @property
    def hardware(self) -> str:
        """What the run used of the machine."""
        e = self.environment
        compiled = "compiled" if e["compile"] else "not compiled"
        return f"{e['device']}, {e['dtype']}, {e['threads']} thread(s), {compiled}"


def train(flags: Sequence[str], caches: Path, **variables: str) -> Training:
    """Run `quoth train` in a fresh folder, with its caches in `caches`: cold where that is empty.

    `variables` are set in its environment.

    Raises:
        InputError: the command failed.
    """
    env = {**cache_variables(caches), **variables}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        finished = run([sys.executable, "-m", "quoth", "train", *flags, "--out", str(out), "--json"], env=env)
        metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        sections = tomllib.loads((out / "config.toml").read_text(encoding="utf-8"))
        settings = {key: value for section in sections.values() for key, value in section.items()}
        environment = json.loads((out / "environment.json").read_text(encoding="utf-8"))
        return Training(json.loads(finished.output), metrics, settings, environment, finished)


def cache_variables(caches: Path) -> dict[str, str]:
    """What puts quoth's and the compiler's caches into a folder."""
    return {"QUOTH_CACHE": str(caches / "quoth"), "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor")}


@contextmanager
def fresh_caches() -> Iterator[Path]:
    """An empty folder for caches, for as long as it is needed."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def first_at(metrics: Sequence[dict[str, Any]], target: float) -> float | None:
    """When the validation loss first was at or below the target, in the run's own seconds.

    >>> first_at([{"seconds": 1, "validation_loss": 3.0}, {"seconds": 2, "loss": 0.1}], 2.0) is None
    True
    """
    reached = (m["seconds"] for m in metrics if m.get("validation_loss", target + 1) <= target)
    return next(reached, None)


def steady_rate(metrics: Sequence[dict[str, Any]], warmup: int) -> float:
    """Tokens per second from the first line at or after step `warmup` to the last."""
    steps = [m for m in metrics if "loss" in m and m["step"] >= warmup]
    if len(steps) < 2:
        raise InputError(f"There are no two logged steps after step {warmup}.")
    tokens = steps[-1]["tokens"] - steps[0]["tokens"]
    return float(tokens / (steps[-1]["seconds"] - steps[0]["seconds"]))


def undisturbed(steps: int) -> list[str]:
    """Flags for a number of steps with nothing between them."""
    return ["--steps", str(steps), "--evaluate-every", str(NEVER), "--sample-tokens", "0"]


def shape_flags(shape: str) -> list[str]:
    """The flags of a shape: layers x width x context x windows a step.

    >>> shape_flags("4x192x128x16")
    ['--layers', '4', '--width', '192', '--context', '128', '--batch', '16', '--accumulate', '1']
    """
    values = shape.split("x")
    if len(values) != 4 or not all(v.isdecimal() for v in values):
        raise InputError(f"A shape is layers x width x context x batch, such as 4x192x128x16, not {shape!r}.")
    pairs = zip(("layers", "width", "context", "batch"), values, strict=True)
    return [word for name, value in pairs for word in (f"--{name}", value)] + ["--accumulate", "1"]


def data_argument(data: str) -> str:
    """A named corpus as it is, a file's path made absolute."""
    return str(Path(data).resolve()) if Path(data).exists() else data


def add_train_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--train-flags", type=shlex.split, default=[], metavar="FLAGS", help="passed on; write --train-flags='...'"
    )
