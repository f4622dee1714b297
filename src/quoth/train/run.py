"""A run is a folder of config, metrics, samples and checkpoints; here it is named, found and read."""

from __future__ import annotations

import json
import re
import time
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from quoth.system.errors import InputError, suggestion
from quoth.system.files import write_atomic, writing
from quoth.system.lock import LOCK

RUNS = Path("runs")


def new_run(out: str | None, preset: str, data: str) -> Path:
    """Make an empty run folder: `out`, or `runs/<date>-<preset>-<data>`, with a number if that exists already.

    Raises:
        InputError: `out` is not empty, or the folder may not be written.
    """
    if out:
        path = Path(out).expanduser()
        if path.is_file() or (path.is_dir() and any(file.name != LOCK for file in path.iterdir())):
            raise InputError(f"{path} exists already; give --out a new folder.")
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
        return path
    first = RUNS / f"{time.strftime('%Y-%m-%d-%H%M%S')}-{file_name(f'{preset}-{data}')}"
    for number in count(2):
        path = first if number == 2 else first.with_name(f"{first.name}+{number - 1}")
        with writing(path), suppress(FileExistsError):  # Another run may begin in the same second.
            path.mkdir(parents=True)
            return path
    raise AssertionError


def file_name(text: str) -> str:
    """A text made fit for a file's name: it keeps letters and digits of any script, and has dashes for the rest.

    The result is in Unicode's form NFC and at most 120 bytes long in UTF-8.

    >>> file_name("laptop-Meine große Erzählung / 吾輩は猫である")
    'laptop-Meine-große-Erzählung-吾輩は猫である'
    """
    kept = (c if c in "._-" or unicodedata.category(c)[0] in "LNM" else "-" for c in unicodedata.normalize("NFC", text))
    name = re.sub(r"-{2,}", "-", "".join(kept)).strip("-")
    return name.encode()[:120].decode(errors="ignore").strip("-.")


def find_run(name: str) -> Path:
    """The run folder that a path, a name under `runs/`, or `latest` stands for.

    Raises:
        InputError: there is no such run.
    """
    runs = list_runs()
    if name == "latest":
        if not runs:
            raise InputError("There are no runs yet in runs/; `quoth train` makes the first.")
        return max(runs, key=lambda run: (run / "config.toml").stat().st_mtime_ns)
    for path in (Path(name).expanduser(), RUNS / name):
        if (path / "config.toml").is_file():
            return path
        if path.is_dir() and path != RUNS:
            raise InputError(f"{path} is not a run, or it is broken: it has no config.toml.")
    raise InputError(f"There is no run {name!r}{suggestion(name, [run.name for run in runs] + ['latest'])}.")


def list_runs() -> list[Path]:
    """The run folders in `runs/`."""
    return sorted(path.parent for path in RUNS.glob("*/config.toml"))


def write_sample(run: Path, step: int, text: str) -> None:
    """Write what the model wrote after a step into the run's folder.

    Raises:
        InputError: the disk is full, or the folder may not be written.
    """
    path = run / "samples" / f"step-{step:06d}.txt"
    with writing(path):
        path.parent.mkdir(exist_ok=True)
    write_atomic(path, text)


class Metrics:
    """Writes `metrics.jsonl`, which has one JSON object a line; each line is written whole."""

    def __init__(self, run: Path, *, silent: bool = False) -> None:
        self.path, self.silent = run / "metrics.jsonl", silent
        self._waiting: list[str] = []

    def cut(self, step: int) -> None:
        """Remove the lines of later steps, and of this step's evaluation, since a resumed run makes them again."""
        if self.path.exists() and not self.silent:
            lines = read_metrics(self.path.parent)
            steps = ((m.get("step", 0), m) for m in lines)
            kept = [m for at, m in steps if at < step or (at == step and "validation_loss" not in m)]
            write_atomic(self.path, "".join(json.dumps(line) + "\n" for line in kept))

    def add(self, **values: Any) -> None:
        """Append a line. If the disk is full, the line is written together with a later one."""
        if not self.silent:
            self._waiting.append(json.dumps(values) + "\n")
            with suppress(InputError):
                self.flush()

    def flush(self) -> None:
        """Write the lines that are not written yet.

        Raises:
            InputError: the disk is full, or the file may not be written.
        """
        while self._waiting:
            with writing(self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(self._waiting[0])
            self._waiting.pop(0)


def read_metrics(run: Path) -> Iterator[dict[str, Any]]:
    """The lines of `metrics.jsonl`; a line that a crash cut short or the disk damaged is left out."""
    path = run / "metrics.jsonl"
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            with suppress(ValueError, RecursionError):
                values = json.loads(line)
                if isinstance(values, dict) and isinstance(values.get("step", 0), int):
                    yield values
