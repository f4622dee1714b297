"""One process at a time works in a folder, and none is kept out by one that is gone."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from quoth.system.errors import InputError
from quoth.system.lock import hold, is_held

HOLDER = "import sys, time; from pathlib import Path; from quoth.system.lock import hold; "
HOLDER += "lock = hold(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"


def test_a_second_process_is_told_who_holds_it_until_that_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    with pytest.raises(InputError) as refused:
        hold(tmp_path)
    who = f"process {holder.pid} on {socket.gethostname()}"
    assert str(refused.value) == f"{tmp_path} is in use: {who} trains in it; wait until it has ended."
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    lock = hold(tmp_path)
    assert str(os.getpid()) in (tmp_path / ".lock").read_text()
    lock.release()


def test_it_is_held_once_in_a_process_too(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    lock = hold(tmp_path)
    with pytest.raises(InputError, match="is in use"):
        hold(tmp_path)
    assert is_held(tmp_path)
    lock.release()
    assert not is_held(tmp_path)
    hold(tmp_path).release()


def test_a_file_system_that_cannot_lock_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert f"{tmp_path} is on a file system that cannot lock" in hold(tmp_path).missing


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        hold(tmp_path / "nowhere")
