"""What benchmarks share: numbers as text, tables, the machine, and results that are kept line by line.

This and the benchmarks that start processes never import torch: on Linux a process's peak memory counts from that of
the process that started it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
QUIET = 0.3


@dataclass
class Table:
    """Rows of text under columns, the first to the left and the others to the right."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)

    def markdown(self) -> str:
        lines = [self.columns, [":--", *["--:"] * (len(self.columns) - 1)], *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"**{self.title}**\n\n{table}" if self.title else table


@dataclass
class Report:
    """What a benchmark found: tables and notes for a person, and `values` for a program."""

    tables: list[Table]
    values: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def spread(values: Iterable[float | None], digits: int = 1) -> str:
    """The median, and from where to where the values go if there are several; what never happened is None.

    >>> spread([3, 1, 2]), spread([1.5]), spread([None]), spread([1200, None], 0)
    ('2.0 (1.0 to 3.0)', '1.5', 'never', '1,200 (1 of 2)')
    """
    all_values = list(values)
    known = [v for v in all_values if v is not None]
    if not known:
        return "never"
    text = f"{median(known):,.{digits}f}"
    if len(known) < len(all_values):
        return f"{text} ({len(known)} of {len(all_values)})"
    return f"{text} ({min(known):,.{digits}f} to {max(known):,.{digits}f})" if len(known) > 1 else text


def ratio(a: float | None, b: float | None, digits: int = 2) -> str:
    """How many times b goes into a.

    >>> ratio(6, 2), ratio(1, None)
    ('3.00x', '-')
    """
    return f"{a / b:.{digits}f}x" if a is not None and b else "-"


def middle(values: Iterable[float | None]) -> float | None:
    """The median of what is known."""
    known = [v for v in values if v is not None]
    return median(known) if known else None


def say(text: str) -> None:
    """Tell what is going on; tables alone go to stdout."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def quiet_load(wait: float) -> float:
    """The load average of the last minute, once it is low or `wait` seconds are over."""
    end = time.monotonic() + wait
    if os.getloadavg()[0] > QUIET and wait:
        say(f"the load average is {os.getloadavg()[0]:.2f}; waiting for {QUIET}")
    while os.getloadavg()[0] > QUIET and time.monotonic() < end:
        time.sleep(2)
    return os.getloadavg()[0]


def machine() -> dict[str, Any]:
    """What quoth says of its environment, asked in another process, and the commit."""
    ask = "import json; from quoth.system.device import environment; print(json.dumps(environment()))"
    facts = json.loads(subprocess.run([sys.executable, "-c", ask], check=True, capture_output=True, text=True).stdout)
    return {**facts, "commit": commit()}


def commit() -> str:
    """The checkout's commit, with a + where something differs from it."""

    def git(*arguments: str) -> str:
        result = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
        return result.stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")


def text_of(report: Report, arguments: Sequence[str], facts: dict[str, Any]) -> str:
    """The report as RESULTS.md has them."""
    gpu = f" and {facts['gpu']}" if "gpu" in facts else ""
    where = (
        f"{time.strftime('%Y-%m-%d')}, {facts['cpu']}, {facts['cores']} cores{gpu}, torch {facts['torch']}, "
        f"Python {facts['python']}, commit {facts['commit']}, load {facts['load_before']:.2f} before it started."
    )
    parts = [f"`python -m benchmarks {' '.join(map(shown, arguments))}`", where]
    if facts["load_before"] > QUIET:
        parts.append(f"**Warning: a load above {QUIET} means that something else was running.**")
    parts += [table.markdown() for table in report.tables]
    if report.notes:
        parts.append("\n".join(f"- {note}" for note in report.notes))
    return "\n\n".join(parts)


def shown(argument: str) -> str:
    """An argument as it may be published: without the folders of this machine.

    >>> shown("/somewhere/nanoGPT"), shown("--minutes 1")
    ('.../nanoGPT', "'--minutes 1'")
    """
    flag, equals, value = argument.rpartition("=")
    if os.path.isabs(value):
        value = f".../{Path(value).name}"
    argument = f"{flag}{equals}{value}"
    return f"'{argument}'" if " " in argument else argument


class Records:
    """Results in a file of JSON lines, so that what was cut off goes on; the newest line of a key counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, dict[str, Any]] = {}
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        self._whole = text.endswith("\n") or not text
        for line in text.splitlines():
            try:
                values = json.loads(line)
            except ValueError:
                continue  # Cut short when the machine stopped.
            self._known[values["key"]] = values

    def get(self, key: str) -> dict[str, Any] | None:
        return self._known.get(key)

    def add(self, key: str, values: dict[str, Any]) -> dict[str, Any]:
        """Keep a result, on disk before this returns."""
        self._known[key] = values = {"key": key, **values}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(("" if self._whole else "\n") + json.dumps(values) + "\n")
        self._whole = True
        return values
