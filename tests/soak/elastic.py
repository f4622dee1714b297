"""Kill one of two processes that train together, over and over, and see how soon they train again, and to what bits.

usage: elastic.py TIMES SEED

Prints {"kills", "seconds", "equal"}: how often one was killed, the longest time from that until a step was logged
again, and whether the run ended in the very bits of one that nothing happened to.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from quoth.train.keeper import checkpoints

SHAPE = "--layers 2 --width 32 --context 32 --batch 4 --accumulate 2 --dropout 0.1 --sample-tokens 0"
MACHINE = "--device cpu --compile off --threads 1 --dtype float32"
BETWEEN = 60  # Steps from one kill to the next, at least.


def started(out: str, steps: int, restarts: int) -> subprocess.Popen[bytes]:
    train = (
        f"train text.txt {SHAPE} {MACHINE} --steps {steps} --evaluate-every 100000 --checkpoint-every 15 --out {out}"
    )
    launch = f"launch --processes 2 --restarts {restarts}"
    command = [sys.executable, "-m", "quoth", *launch.split(), *train.split()]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def logged(run: Path) -> tuple[int, int]:
    """Which file the metrics are in, since a run that goes on writes it anew, and the last step that was logged."""
    path = run / "metrics.jsonl"
    if not path.exists():
        return 0, 0
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return path.stat().st_ino, max((m["step"] for m in lines if "loss" in m), default=0)


def digests(run: Path) -> dict[str, str]:
    files: dict[str, str] = json.loads((checkpoints(run)[0] / "manifest.json").read_text())["files"]
    return {name: files[name] for name in ("model.safetensors", "optimizer.safetensors")}


def main(times: int, seed: int) -> dict[str, Any]:
    rng, place = random.Random(seed), Path(tempfile.mkdtemp(prefix="elastic-"))
    os.chdir(place)
    os.environ |= {"QUOTH_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    words = rng.choices(["king", "queen", "sea", "love", "night", "day", "hath", "speak"], k=4000)
    Path("text.txt").write_text(" ".join(words))
    steps = BETWEEN * (times + 2)
    assert started("unbroken", steps, 0).wait() == 0
    launched, run, kills, longest, reached = started("run", steps, times), Path("run"), 0, 0.0, 0
    while launched.poll() is None:
        file, step = logged(run)
        if kills == times or step < reached + BETWEEN or step > steps - BETWEEN // 2:
            time.sleep(0.01)
            continue
        workers = Path(f"/proc/{launched.pid}/task/{launched.pid}/children").read_text().split()
        os.kill(int(rng.choice(workers)), signal.SIGKILL)
        killed, kills = time.monotonic(), kills + 1
        while launched.poll() is None and (logged(run)[0] == file or logged(run)[1] <= checkpointed(run)):
            time.sleep(0.01)
        longest, reached = max(longest, time.monotonic() - killed), step
    equal = launched.returncode == 0 and digests(run) == digests(Path("unbroken"))
    return {"kills": kills, "seconds": round(longest, 1), "equal": equal}


def checkpointed(run: Path) -> int:
    """The step of the newest checkpoint, which a run that goes on has to get past."""
    found = checkpoints(run)
    return int(found[0].name.removeprefix("step-")) if found else 0


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]))))
