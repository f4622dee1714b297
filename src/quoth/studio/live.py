"""Follow a run while it trains: the lines of its log, its moments and samples, as they come to be in its folder."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from fastapi.sse import ServerSentEvent

from quoth.system.lock import is_held
from quoth.train.keeper import moments

# Seconds between two looks at the log, and how many of these go by between two looks at the folder.
PAUSE = 0.1
SELDOM = 10


class LogFollower:
    """Reads the whole lines that came since the last time. A file that was written anew is read from its beginning.

    A resumed run writes its log anew, without the lines of steps that it takes again; so a place in it is a number of
    bytes and the file's inode, and not a number of lines.

    Args:
        place: where to begin, as `place` gave it; "" at the beginning.

    >>> follower = LogFollower(Path("runs/first/metrics.jsonl"))           # doctest: +SKIP
    >>> follower.read()                                                    # doctest: +SKIP
    (False, [{'step': 10, 'loss': 2.8}])
    """

    def __init__(self, path: Path, place: str = "") -> None:
        self.path = path
        read, _, inode = place.partition("-")
        self._read, self._inode = (int(read), int(inode)) if read.isdecimal() and inode.isdecimal() else (0, 0)

    @property
    def place(self) -> str:
        """What has been read so far."""
        return f"{self._read}-{self._inode}"

    def skip(self) -> str:
        """Go to the end of the last whole line, and return that place."""
        self.read()
        return self.place

    def read(self) -> tuple[bool, list[dict[str, Any]]]:
        """Whether the file was written anew, so that what was read before counts no more; and the new lines."""
        try:
            status = self.path.stat()
            if (status.st_size, status.st_ino) == (self._read, self._inode):
                return False, []
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                anew = self._inode not in (0, status.st_ino) or status.st_size < self._read
                self._read, self._inode = 0 if anew else self._read, status.st_ino
                file.seek(self._read)
                block = file.read()
        except OSError:  # The run has not logged anything yet, or its folder is gone.
            return False, []
        whole = block[: block.rfind(b"\n") + 1]
        self._read += len(whole)
        return anew, [line for line in map(_parsed, whole.splitlines()) if line is not None]


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def newest_sample(run: Path) -> dict[str, str] | None:
    """What the run wrote last, and the file's name without its ending; None if it has written nothing."""
    found = sorted((run / "samples").glob("step-*.txt"))
    try:
        return {"name": found[-1].stem, "text": found[-1].read_text(encoding="utf-8", errors="replace")[:2000]}
    except (IndexError, OSError):
        return None


async def follow(run: Path, place: str, goes_on: Callable[[], bool]) -> AsyncIterator[ServerSentEvent]:
    """The events of a run: `lines` of its log, `again` where it was written anew, and `folder` for all else.

    They end when `goes_on` returns false, which a server that ends needs.
    """
    follower = LogFollower(run / "metrics.jsonl", place)
    known: dict[str, Any] = {}
    looks = 0
    while goes_on():
        anew, lines = follower.read()
        if anew:
            yield ServerSentEvent(event="again", data={}, id=follower.place)
        elif lines:
            yield ServerSentEvent(event="lines", data=lines, id=follower.place)
        if looks % SELDOM == 0:
            now = {
                "moments": list(moments(run)),
                "sample": newest_sample(run),
                "trains": is_held(run),
            }
            if now != known:
                known = now
                yield ServerSentEvent(event="folder", data=now, id=follower.place)
        looks += 1
        await asyncio.sleep(PAUSE)
