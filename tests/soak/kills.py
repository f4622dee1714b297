"""Kill a run with -9 at random moments, in the middle of saves too, go on with it, and look at the bits of its end.

usage: kills.py TIMES SEED [FLAG...]

Prints {"kills", "inside_saves", "runs", "equal"}: how often it was killed, how often while a checkpoint was written,
how many runs were brought to their end, and how many of these ended in the very bits of a run that nothing happened to.
Processes are forked from one that has imported torch, so that each takes a fraction of a second.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import quoth.recipes.start  # noqa: F401  All that a forked process would import.
from quoth.cli.dispatch import dispatch
from quoth.train.keeper import checkpoints

SHAPE = (
    "--layers 2 --width 32 --context 32 --batch 4 --accumulate 2 --dropout 0.1 --sample-tokens 0 --evaluate-every 20"
)
MACHINE = "--device cpu --compile off --threads 1"
LONG = "--steps 60 --checkpoint-every 3"


def forked(arguments: list[str], until: Callable[[int], bool]) -> bool:
    """Run a command in a process of its own, killed when `until` its pid says so; whether it came to its end."""
    pid = os.fork()
    if pid == 0:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os._exit(dispatch(arguments))
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if until(pid):
            os.kill(pid, signal.SIGKILL)
            break
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return False
    assert os.WEXITSTATUS(status) == 0, f"quoth {' '.join(arguments)} said {os.WEXITSTATUS(status)}"
    return True


def digests(run: Path) -> dict[str, str]:
    files: dict[str, str] = json.loads((checkpoints(run)[0] / "manifest.json").read_text())["files"]
    return {name: files[name] for name in ("model.safetensors", "optimizer.safetensors")}


def moment(rng: random.Random, run: Path, seconds: float, *, inside: bool) -> Callable[[int], bool]:
    """Any moment of a run, or one soon after a save has begun."""
    end = time.monotonic() + rng.uniform(0.05, 1.1 * seconds)
    late = rng.uniform(0, 0.004)

    def now(pid: int) -> bool:
        if time.monotonic() < end:
            time.sleep(0.001)
            return False
        if inside:
            if not any((run / "checkpoints").glob(".step-*")):
                return False
            time.sleep(late)
        return True

    return now


def main(times: int, seed: int, flags: list[str]) -> dict[str, int]:
    rng, place = random.Random(seed), Path(tempfile.mkdtemp(prefix="kills-"))
    os.chdir(place)
    words = rng.choices(["king", "queen", "sea", "love", "night", "day", "hath", "speak"], k=4000)
    Path("text.txt").write_text(" ".join(words))
    train = ["train", "text.txt", *f"{SHAPE} {MACHINE} {LONG}".split(), *flags]
    began, os.environ["QUOTH_CACHE"] = time.monotonic(), str(place / "cache")
    assert forked([*train, "--out", "unbroken"], lambda pid: bool(time.sleep(0.002)))
    seconds, wanted = time.monotonic() - began, digests(Path("unbroken"))
    counts = {"kills": 0, "inside_saves": 0, "runs": 0, "equal": 0}
    while counts["kills"] < times or counts["runs"] < 1:
        run = Path(f"run{counts['runs']}")
        os.environ["QUOTH_CACHE"] = str(place / f"cache{counts['runs']}")  # What is compiled, is compiled anew.
        done = False
        while not done:
            inside = rng.random() < 0.5
            when = moment(rng, run, seconds, inside=inside) if counts["kills"] < times else lambda pid: False
            go_on = ["train", "--resume", str(run)] if (run / "config.toml").exists() else [*train, "--out", str(run)]
            done = forked(go_on, when)
            counts["kills"] += not done
            counts["inside_saves"] += not done and inside
        counts["runs"] += 1
        counts["equal"] += digests(run) == wanted
    return counts


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])))
