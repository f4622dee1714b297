"""One of two processes that train, and on one of which a disk fails: what test_rank_faults.py looks at.

usage: rank_worker.py FOLDER RANK KIND NUMBER SHARDED: on rank RANK the NUMBER-th thing done to a file under FOLDER's
checkpoints fails with ENOSPC or EIO (KIND), or kills the process (KIND kill).
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
from recipes.runs import FLAGS

from quoth.recipes.events import Note
from quoth.recipes.start import start
from quoth.system.errors import InputError
from quoth.system.world import joined


def spoil(folder: Path, kind: str, number: int) -> None:
    """Let the operating system refuse something, or die at it."""
    left = [number]

    def refuse(event: str, arguments: tuple[object, ...]) -> None:
        writes = event != "open" or bool(int(arguments[2]) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))  # type: ignore[call-overload]
        changes = event.startswith(("open", "os.", "shutil.")) and event not in ("os.listdir", "os.scandir") and writes
        if changes and str(folder / "checkpoints") in str(arguments):
            left[0] -= 1
            if left[0] == 0:
                if kind == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                code = getattr(errno, kind)
                raise OSError(code, os.strerror(code))

    sys.addaudithook(refuse)


def main(folder: Path, rank: int, kind: str, number: int, sharded: bool) -> None:
    torch.set_num_threads(1)
    with joined() as world:
        if world.rank == rank:
            spoil(folder, kind, number)
        changes = {"steps": 8, "checkpoint_every": 2, "evaluate_every": 4, "shard": sharded, "accumulate": 2}
        flags = {"data": "text.txt", **FLAGS, **changes}
        notes, outcome = [], "finished"
        try:
            session = start("laptop", None, flags, str(folder), None, time.monotonic(), world)
            for event in session.events():
                notes += [event.text] if isinstance(event, Note) else []
        except InputError as error:
            outcome = str(error)
        (folder / f"rank{world.rank}.json").write_text(json.dumps({"outcome": outcome, "notes": notes}))
        world.most([0.0])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5] == "True")
