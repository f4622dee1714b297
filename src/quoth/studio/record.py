"""Reads a run's folder: its settings, what it logged, what it wrote, and, in sentences, what is missing."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from quoth.system.words import plural

Fields = dict[str, Any]
SAMPLE_CHARACTERS = 6000


class Reading(NamedTuple):
    """One logged value and when it was."""

    seconds: float
    step: float
    value: float


@dataclass(frozen=True)
class Record:
    """What a run's folder tells of the run.

    The `facts` come from the summary, and where it has none, from what was logged. The `problems` say in sentences what
    is missing.
    """

    config: Fields
    environment: Fields
    facts: Fields
    lines: list[Fields]
    samples: list[tuple[str, str]]
    problems: list[str]

    def number(self, key: str) -> float | None:
        """The fact of this name, or None if it is no finite number."""
        return finite(self.facts.get(key))


def read_record(run: Path) -> Record:
    """Read what a run's folder holds; a file that is missing or damaged is a problem of the record, and no error."""
    problems: list[str] = []
    config = _parsed(run / "config.toml", tomllib.loads, problems)
    lines = list(_one_clock(_json_lines(run / "metrics.jsonl", problems)))
    samples = list(_read_samples(run / "samples", problems))
    environment = _parsed(run / "environment.json", json.loads, problems)
    summary = _parsed(run / "summary.json", json.loads, problems)
    if bad := sum("loss" in line and finite(line["loss"]) is None for line in lines):
        problems.append(f"The loss is not a finite number on {plural(bad, 'line')}, which the curve leaves out.")
    known: Fields = {"run": run.resolve().name, "data": "its text", "tokenizer": "characters", "stopped": "unfinished"}
    data = config.get("data")
    facts = known | (data if isinstance(data, dict) else {}) | _logged(lines) | summary
    # The summary's time is that of the last sitting; a run that was resumed has taken longer.
    times = [finite(summary.get("seconds")), *(finite(line.get("seconds")) for line in lines)]
    facts["seconds"] = max((t for t in times if t is not None), default=None)
    return Record(config, environment, facts, lines, samples, problems)


def _logged(lines: list[Fields]) -> Fields:
    """What the lines tell of a run that has no summary: the last values, and the best evaluation's."""
    last: Fields = {}
    for line in lines:
        last |= line
    facts = {key: last.get(key) for key in ("tokens", "tokens_per_second")}
    facts |= {"steps": last.get("step"), "train_loss": last.get("loss")}
    if judged := readings(lines, "validation_loss"):
        best = min(judged, key=lambda r: r.value)
        bits = {r.step: r.value for r in readings(lines, "bits_per_byte")}
        facts |= {"validation_loss": best.value, "best_step": best.step, "bits_per_byte": bits.get(best.step)}
    return facts


def readings(lines: list[Fields], key: str) -> list[Reading]:
    """The finite values of `key` by step; of a step that was done again after a resume, the last value counts."""
    by_step = {}
    for line in lines:
        seconds, step, value = (finite(line.get(k)) for k in ("seconds", "step", key))
        if seconds is not None and step is not None and value is not None:
            by_step[step] = Reading(seconds, step, value)
    return [by_step[step] for step in sorted(by_step)]


def _one_clock(lines: Iterable[Fields]) -> Iterator[Fields]:
    """A resumed run's clock begins anew: let it go on from where it stood."""
    before = past = 0.0
    for line in lines:
        if (seconds := finite(line.get("seconds"))) is not None:
            past += before if seconds < before else 0.0
            before = seconds
            line["seconds"] = past + seconds
        yield line


def _parsed(path: Path, parse: Callable[[str], Any], problems: list[str]) -> Fields:
    try:
        value = parse(path.read_text(encoding="utf-8", errors="replace"))
        if isinstance(value, dict):
            return value
        problems.append(f"{path.name} is damaged: it does not hold named values.")
    except FileNotFoundError:
        problems.append(f"{path.name} is not there.")
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"{path.name} cannot be read: {error}.")
    return {}


def _text(path: Path, problems: list[str]) -> str:
    return str(_parsed(path, lambda text: {"text": text}, problems).get("text", ""))


def _json_lines(path: Path, problems: list[str]) -> Iterator[Fields]:
    bad = 0
    for line in filter(str.strip, _text(path, problems).split("\n")):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            yield value
        else:
            bad += 1
    if bad:
        problems.append(f"{plural(bad, 'line')} of {path.name} cannot be read; a crash can cut the last one off.")


def _read_samples(folder: Path, problems: list[str]) -> Iterator[tuple[str, str]]:
    paths = sorted(folder.glob("*.txt"), key=lambda path: (step_of(path.stem), path.name))
    if not paths:
        problems.append("There are no samples.")
    for path in paths:
        text = _text(path, problems)
        yield path.stem, text if len(text) <= SAMPLE_CHARACTERS else text[:SAMPLE_CHARACTERS] + "…"


def step_of(stem: str) -> float:
    """The step that a sample's name begins with, or infinity if it begins with none, so that the sample comes last."""
    return float(found[1]) if (found := re.match(r"step-(\d{1,15})", stem)) else math.inf


def finite(value: object) -> float | None:
    """The value if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 else None  # An int may be too large for a float, and NaN is not less.
