"""Find out how much memory is free and how much a process uses."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import torch


def available_bytes(device: str) -> int | None:
    """The free bytes of memory on a device, within a container's limit; None if the system does not tell."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    if device != "cpu":
        return None
    return min((n for n in (memory_info().get("MemAvailable"), left_in_container()) if n is not None), default=None)


def memory_info() -> dict[str, int]:
    """The memory figures that Linux reports, in bytes, by name; empty on other systems."""
    with suppress(OSError, ValueError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        pairs = (line.partition(":") for line in lines)
        return {name: 1024 * int(value.split()[0]) for name, _, value in pairs}
    return {}


def peak_bytes(device: str = "cpu") -> int | None:
    """The most bytes that this process has used so far, of a GPU's or the machine's memory; None if not known."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    with suppress(ImportError):
        from resource import RUSAGE_SELF, getrusage

        return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return None


def left_in_container(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The bytes that a container's limit leaves, or None without a limit. Cached pages of files count as free."""
    second = ("memory.max", "memory.current")
    first = ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")
    for limit, usage in (second, first):
        with suppress(OSError, ValueError):
            most, used = (int((root / name).read_text(encoding="ascii")) for name in (limit, usage))
            words = ((root / limit).parent / "memory.stat").read_text(encoding="ascii").split()
            files = int(dict(zip(words[::2], words[1::2], strict=False)).get("inactive_file", 0))
            return most - used + files if most < 2**60 else None
    return None


def size(count: float) -> str:
    """A number of bytes in a unit for people.

    >>> size(1_500_000_000), size(96_000_000), size(2_640_000)
    ('1.5 GB', '96 MB', '2.6 MB')
    """
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e7 else f"{count / 1e6:.1f} MB"
