"""A trial of a run: twenty of its steps, made as the run would make them, and what they took."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from quoth.system.errors import InputError

STEPS = 20


@dataclass(frozen=True)
class Trial:
    """What a trial measured.

    Attributes:
        step_seconds: the seconds that a step took after the first ones.
        peak_bytes: the most memory that the process held; None where the system does not tell.
        other_seconds: the seconds that everything but steps took: starting, compiling, evaluating and saving.
    """

    step_seconds: float
    peak_bytes: int | None
    other_seconds: float


def calibrate(config: str, *, compiled: bool) -> Trial:
    """Train for twenty steps in a process and a folder of its own. `config` is the text of a complete config file.

    Raises:
        InputError: the training was refused or failed.
    """
    with tempfile.TemporaryDirectory(prefix="quoth-plan-") as place:
        file, run = Path(place, "config.toml"), Path(place, "run")
        file.write_text(config, encoding="utf-8")
        flags = {"steps": STEPS, "evaluate-every": 10 * STEPS, "sample-tokens": 20, "spikes": 0}
        given = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        given += ["--compile", "on" if compiled else "off"]
        command = [sys.executable, "-m", "quoth", "train", "--config", str(file), "--out", str(run), *given]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().removeprefix("quoth: ")
            raise InputError(f"The run could not be tried out: {said or f'its exit code was {done.returncode}'}")
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        steps = [(line["step"], line["seconds"]) for line in lines if "loss" in line]
        if len(steps) < 2:
            raise InputError("The run could not be tried out: its loss is not finite.")
        (first, began), (last, ended) = steps[0], steps[-1]
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        each = (ended - began) / (last - first)
        return Trial(each, summary["peak_bytes"], summary["seconds"] - STEPS * each)
