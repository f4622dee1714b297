"""What must never be lost, tried over and over. `make soak` is the long version of what `make test` does briefly."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.text.tokenizer import Characters
from quoth.train.checkpoint import snapshot
from quoth.train.keeper import Keeper, checkpoints, intact
from quoth.train.optimizers import make_optimizer

LONG = bool(os.environ.get("QUOTH_SOAK"))
HERE = Path(__file__).parent


def run(program: str, *arguments: object) -> dict[str, Any]:
    """What one of the programs beside this file says."""
    command = [sys.executable, str(HERE / program), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(program, *arguments, said)
    return said


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "dtype"), [("muon", "bfloat16"), ("adamw", "float32"), ("muon", "float32")])
def test_a_killed_run_goes_on_to_the_same_bits(optimizer: str, dtype: str) -> None:
    times = 50 if LONG else 4
    said = run("kills.py", times, 1, "--optimizer", optimizer, "--dtype", dtype)
    assert said["kills"] >= times
    assert said["equal"] == said["runs"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["--evaluate-every 1 --checkpoint-every 0", "--compile on --steps 8"])
def test_a_run_that_is_killed_while_it_evaluates_or_compiles_goes_on_to_the_same_bits(flags: str) -> None:
    times = 20 if LONG else 1
    said = run("kills.py", times, 5, *flags.split())
    assert said["kills"] >= times
    assert said["equal"] == said["runs"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "stride"), [("bytes", 97 if LONG else 1999), ("events", 1 if LONG else 3)])
def test_a_whole_checkpoint_is_always_there(kind: str, stride: int) -> None:
    said = run("faults.py", kind, stride)
    assert said["failed"] > 5
    assert said["whole"] == said["tried"]


@pytest.mark.slow
def test_every_flipped_bit_and_every_cut_is_found_and_the_one_before_is_taken(tmp_path: Path) -> None:
    rng, keeper = random.Random(2), Keeper(tmp_path)
    model = GPT(family("modern", vocabulary=11, context=8, layers=1, width=16, heads=2))
    for step in (1, 2):
        keeper.save(snapshot(model, Characters("abcdefghijk"), {"step": step}, make_optimizer(model)), step)
    keeper.finish()
    files = sorted(checkpoints(tmp_path)[0].iterdir())
    for _ in range(1000 if LONG else 100):
        path = rng.choice(files)
        data = path.read_bytes()
        spoiled = bytearray(data[: rng.randrange(len(data))] if rng.random() < 0.2 else data)
        if len(spoiled) == len(data):
            spoiled[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(spoiled)
        said: list[str] = []
        assert intact(tmp_path, "last", said.append).name == "step-000001"
        assert len(said) == 1
        path.write_bytes(data)
    assert intact(tmp_path, "last", said.append).name == "step-000002"


@pytest.mark.slow
def test_processes_that_are_killed_are_replaced_and_soon_train_again() -> None:
    times = 20 if LONG else 1
    said = run("elastic.py", times, 3)
    assert said["kills"] == times
    assert said["equal"]
    assert said["seconds"] < (15 if LONG else 60)  # Other tests run beside the short one.
