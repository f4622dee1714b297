"""Whatever fails on one rank while a checkpoint is saved, all ranks leave the save with the same outcome."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from quoth.train.keeper import checkpoints
from quoth.train.manifest import problems

WORKER = Path(__file__).with_name("rank_worker.py")
pytestmark = [pytest.mark.usefixtures("place"), pytest.mark.slow]
# Rank, kind, which of the things done to files fails, and whether the model is sharded.
FEW = [(0, "ENOSPC", 3, False), (0, "EIO", 9, True), (1, "ENOSPC", 2, True)]
MANY = [
    *(
        (0, kind, number, sharded)
        for kind in ("ENOSPC", "EIO")
        for number in range(1, 16, 2)
        for sharded in (False, True)
    ),
    *((1, kind, number, True) for kind in ("ENOSPC", "EIO") for number in range(1, 6)),
]


def launch(folder: Path, rank: int, kind: str, number: int, *, sharded: bool) -> subprocess.CompletedProcess[str]:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *(str(WORKER), str(folder), str(rank), kind, str(number), str(sharded)),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)


def said(folder: Path, rank: int) -> dict[str, object]:
    told: dict[str, object] = json.loads((folder / f"rank{rank}.json").read_text())
    return told


@pytest.mark.parametrize(("rank", "kind", "number", "sharded"), MANY if os.environ.get("QUOTH_SOAK") else FEW)
def test_a_disk_that_fails_on_one_rank(rank: int, kind: str, number: int, sharded: bool, place: Path) -> None:
    done = launch(place / "run", rank, kind, number, sharded=sharded)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = said(place / "run", 0), said(place / "run", 1)
    assert first == second
    assert first["outcome"] == "finished"
    if (rank, kind, number, sharded) in FEW:
        assert "Training goes on" in str(first["notes"])
    # What fails once does no harm: the next checkpoint is there, and it is intact.
    assert checkpoints(place / "run")[0].name == "step-000008"
    assert not list(problems(checkpoints(place / "run")[0]))


@pytest.mark.parametrize(("rank", "sharded"), [(0, False), (0, True), (1, True)])
def test_a_rank_that_is_killed_in_a_save_ends_the_others(rank: int, sharded: bool, place: Path) -> None:
    done = launch(place / "run", rank, "kill", 2, sharded=sharded)
    assert done.returncode != 0
    assert not [problem for folder in checkpoints(place / "run") for problem in problems(folder)]
