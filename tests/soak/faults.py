"""Let the disk fill up at every byte of a save, or kill it at all that it does to a file: a whole checkpoint is there.

usage: faults.py bytes|events STRIDE

Prints {"tried", "failed", "whole"}: how many saves were tried, how many of them did not come to their end, and after
how many there was a whole checkpoint. A limit on the size of files stands for a full disk: writes end short.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path

import torch

from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.system.errors import InputError
from quoth.text.tokenizer import Characters
from quoth.train.checkpoint import Snapshot, snapshot
from quoth.train.keeper import Keeper, intact
from quoth.train.optimizers import make_optimizer


def content(step: int) -> Snapshot:
    torch.manual_seed(step)
    model = GPT(family("modern", vocabulary=11, context=8, layers=1, width=16, heads=2))
    return snapshot(model, Characters("abcdefghijk"), {"step": step}, make_optimizer(model))


def forked(save: Snapshot, run: Path, limit: int, events: int) -> bool:
    """Save in a process of its own that may write files of so many bytes, or do so many things; whether it could."""
    pid = os.fork()
    if pid == 0:
        if limit:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        if events:
            left = [events]

            def count(event: str, arguments: tuple[object, ...]) -> None:
                if event.startswith(("open", "os.", "shutil.")) and str(run) in str(arguments):
                    left[0] -= 1
                    if left[0] == 0:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(count)
        keeper = Keeper(run, last=1)
        try:
            keeper.save(save, 2)
            keeper.finish()
            keeper.mark_best(2)
        except InputError:
            os._exit(3)
        except BaseException:
            os._exit(4)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert not (os.WIFEXITED(status) and os.WEXITSTATUS(status) == 4), (
        "something else than a sentence came out of a save"
    )
    return os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0


def main(kind: str, stride: int) -> dict[str, int]:
    place, save = Path(tempfile.mkdtemp(prefix="faults-")), content(2)
    counts = {"tried": 0, "failed": 0, "whole": 0}
    done, number = False, 1
    while not done:
        run = place / f"run{number}"
        before = Keeper(run, last=1)
        before.save(content(1), 1)
        before.finish()
        done = forked(save, run, limit=number if kind == "bytes" else 0, events=number if kind == "events" else 0)
        counts["tried"] += 1
        counts["failed"] += not done
        counts["whole"] += intact(run, "last", lambda problem: None).name in ("step-000001", "step-000002")
        Keeper(run).clear()
        counts["whole"] -= any((run / "checkpoints").glob(".step-*"))
        number += stride
    return counts


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
