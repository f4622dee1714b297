"""A process that runs a user's own Python, and ends with everything that the user's Python has started.

On Linux such a process has a parent of its own, the supervisor, in which nothing of the user's runs. The supervisor is
a "child subreaper": a process below it whose parent ends becomes its child. So whatever the user's Python starts is
found below the supervisor, whichever session or group it has moved to. Only a program that kills its supervisor on
purpose can leave something running. This module loads little, since each such process loads it.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

LINUX = sys.platform.startswith("linux")
# Options of Linux's prctl.
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
# For how long processes are ended that start new ones as fast.
ENDING_SECONDS = 5.0
POLL_SECONDS = 0.01


def command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module as `__main__` under a supervisor, and ends with the module's exit code or signal.

    Start it with `start_new_session=True`, and stop it with `end`.

    >>> command("quoth.tune.reward_child")[1:]
    ['-P', '-m', 'quoth.system.supervisor', 'quoth.tune.reward_child']
    """
    # With -P a file in the folder that one is in, such as random.py, does not take the place of Python's own.
    return [sys.executable, "-P", "-m", "quoth.system.supervisor", module, *arguments]


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that runs a `command`, with all that it has started, and wait for it.

    On systems other than Linux, processes that have left the process's group are not found.
    """
    until = time.monotonic() + ENDING_SECONDS
    while LINUX and process.poll() is None and time.monotonic() < until:
        _kill_below(process.pid)  # When its child has ended, the supervisor ends too.
        with suppress(subprocess.TimeoutExpired):
            process.wait(POLL_SECONDS)
    if not LINUX or process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
    process.wait()


def _main(module: str) -> None:
    """Run the module; on Linux in a child, after which all that it has left is ended."""
    if not (LINUX and _prctl(PR_SET_CHILD_SUBREAPER, 1)):
        return _run(module)
    supervisor, child = os.getpid(), os.fork()
    if not child:
        os.setsid()  # So that a signal to its group does not reach the supervisor.
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        return _run(module) if os.getppid() == supervisor else None
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):  # Else the pipes would be open still when the child has closed them.
        os.dup2(nothing, stream)
    while (ended := os.wait())[0] != child:
        pass
    until = time.monotonic() + ENDING_SECONDS
    while _has_children() and time.monotonic() < until:
        _kill_below(supervisor)
        time.sleep(POLL_SECONDS)
    return _end_as(os.waitstatus_to_exitcode(ended[1]))


def _run(module: str) -> None:
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_as(code: int) -> None:
    """End this process with the exit code of another, or by the signal that ended it, of which the code is minus."""
    if code < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError):  # SIGKILL cannot be caught, so it need not be reset.
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(abs(code))


def _prctl(option: int, value: int) -> bool:
    """Whether the system has set an option of this process."""
    import ctypes

    with suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
    return False


def _has_children() -> bool:
    """Whether this process has a child that has not ended; those that have are collected."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return True
    return False


def _kill_below(top: int) -> None:
    """Kill all processes that a process has started, and those that these have started."""
    for pid in _below(top):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _below(top: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):  # It may have ended by now.
                # After the name, which is in parentheses and may hold anything, come the state and the parent.
                state, parent, *_ = (folder / "stat").read_bytes().rpartition(b")")[2].split()
                if state not in (b"Z", b"X"):
                    children.setdefault(int(parent), []).append(int(folder.name))
    found = [top]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]


if __name__ == "__main__":
    del sys.argv[0]
    _main(sys.argv[0])
