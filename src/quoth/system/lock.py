"""Lock a folder for one process at a time; the operating system releases the lock when the process dies."""

from __future__ import annotations

import errno
import os
import socket
import time
from pathlib import Path
from typing import IO, Any

from quoth.system.errors import InputError
from quoth.system.files import writing

LOCK = ".lock"
# A process that was just killed may take a moment to be gone.
PATIENCE_SECONDS = 1.0
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


class Lock:
    """A lock on a folder, held until `release` or until the process ends, even by `kill -9`.

    Attributes:
        missing: a sentence if the file system cannot lock; else empty.
    """

    def __init__(self, file: IO[str], missing: str = "") -> None:
        self._file, self.missing = file, missing

    def release(self) -> None:
        """Release the lock, so that other processes may hold the folder."""
        self._file.close()


def hold(folder: Path) -> Lock:
    """Lock a folder for this process, which `<folder>/.lock` names. On NFS the server keeps the lock.

    >>> lock = hold(Path("runs/first"))                                     # doctest: +SKIP
    >>> lock.release()                                                      # doctest: +SKIP

    Raises:
        InputError: another process holds it, or the folder may not be written.
    """
    path, end = folder / LOCK, time.monotonic() + PATIENCE_SECONDS
    with writing(path):
        file = path.open("a+", encoding="utf-8")
    while True:
        try:
            lock_file(file)
            break
        except OSError as error:
            if error.errno in UNSUPPORTED:
                return Lock(file, f"{folder} is on a file system that cannot lock, so nothing keeps a second process "
                                  "from training in it; make sure that none does.")  # fmt: skip
            if time.monotonic() < end:
                time.sleep(0.05)
                continue
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise InputError(f"{folder} is in use: {holder} trains in it; wait until it has ended.") from error
    with writing(path):
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
    return Lock(file)


def is_held(folder: Path) -> bool:
    """Whether a process holds a folder; false where the file system cannot tell.

    >>> is_held(Path("runs/none"))
    False
    """
    try:
        with (folder / LOCK).open("r+", encoding="utf-8") as file:
            lock_file(file)
    except FileNotFoundError:
        return False
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
    return False


def lock_file(file: IO[Any]) -> None:
    """Lock an open file; raise OSError if another process holds it. The lock belongs to the file, not to its name."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows locks bytes; a locked byte beyond the end lets others read the text.
        import msvcrt

        file.seek(2**20)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
