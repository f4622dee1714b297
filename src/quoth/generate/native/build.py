"""The compiled decoder: made once on each machine, by the compiler that torch.compile uses, and kept."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from quoth.system.device import cpp_compiler, cpu_flags, cpu_name
from quoth.system.errors import InputError
from quoth.system.files import cache_folder, write_atomic

SOURCES = Path(__file__).parent
# No -ffast-math: sums keep the order that they are written in, and infinities mean something.
FLAGS = ("-std=c++20", "-O3", "-fno-math-errno", "-shared", "-fPIC", "-pthread")


class BuildError(Exception):
    """There is no compiler here that can make the decoder; the message says why."""


@cache
def library() -> ctypes.CDLL:
    """The decoder's functions, compiled if they have not been on this machine.

    Raises:
        BuildError: there is no compiler, or it fails.
    """
    if not (compiler := _compiler()):
        raise BuildError("there is no C++ compiler")
    path = cache_folder() / f"decoder-{_digest(compiler)}.so"
    if not path.exists():
        _compile(compiler, path)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(str(error)) from error


def is_built() -> bool:
    """Whether the decoder can be had at once."""
    compiler = _compiler()
    return compiler is not None and (cache_folder() / f"decoder-{_digest(compiler)}.so").exists()


def _compiler() -> str | None:
    """One whose flags are known here: Microsoft's has others."""
    return None if os.name == "nt" else cpp_compiler()


@cache
def _digest(compiler: str) -> str:
    """What the compiled file depends on: the source, how it is compiled, and the processor."""
    parts = [*(file.read_bytes() for file in sorted(SOURCES.glob("*.[ch]*"))), *(flag.encode() for flag in FLAGS)]
    version = subprocess.run([compiler, "--version"], capture_output=True, check=False).stdout
    parts += [compiler.encode(), version, platform.machine().encode(), cpu_name().encode(), cpu_flags().encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _compile(compiler: str, path: Path) -> None:
    native = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / path.name
            command = [compiler, *FLAGS, native, str(SOURCES / "decoder.cpp"), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                why = done.stderr.strip().splitlines() or ["it does not say why"]
                raise BuildError(f"{compiler} failed: {next((line for line in why if 'error' in line), why[0])}")
            write_atomic(path, made.read_bytes())
    except (OSError, InputError) as error:
        raise BuildError(str(error)) from error
