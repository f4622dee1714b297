"""How long `quoth --help` takes, and that it does not import torch."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import Report, Table, spread

IS_TORCH_IMPORTED = """
import sys
from quoth.__main__ import main
sys.argv = ["quoth", "--help"]
try:
    main()
except SystemExit:
    print("torch" in sys.modules, file=sys.stderr)
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=20)


def run(options: argparse.Namespace) -> Report:
    script = Path(sys.executable).with_name("quoth")
    commands = {
        "quoth --help": [str(script), "--help"] if script.exists() else [sys.executable, "-m", "quoth", "--help"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    # In turn, so that what else the machine does falls on both.
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(options.repeats):
        for name, command in commands.items():
            times[name].append(_milliseconds(command))
    asked = subprocess.run([sys.executable, "-c", IS_TORCH_IMPORTED], check=True, capture_output=True, text=True)
    imported = asked.stderr.strip() == "True"
    table = Table("", ["", "ms"], [[f"`{name}`", spread(values)] for name, values in times.items()])
    note = f"{options.repeats} times each, in turn; torch is {'' if imported else 'not '}imported."
    return Report([table], {"milliseconds": times, "torch_imported": imported}, [note])


def _milliseconds(command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return 1000 * (time.perf_counter() - began)
