"""The compiled decoder: made once on each machine, by the compiler that torch.compile uses, and kept."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
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
    """The compiled decoder cannot be had on this machine; the message says why.

    Attributes:
        tried: whether a compiler is here and failed, which a user should hear of.
    """

    def __init__(self, message: str, *, tried: bool = False) -> None:
        super().__init__(message)
        self.tried = tried


@cache
def library() -> ctypes.CDLL:
    """The decoder's functions, compiled if this machine has not compiled them yet.

    A compilation that failed leaves its output in a log beside the file that it should have made. It is not tried
    again as long as the log is there.

    Raises:
        BuildError: there is no compiler, or it fails.
    """
    if not (compiler := _compiler()):
        raise BuildError("there is no C++ compiler")
    path = _path(compiler)
    if not path.exists():
        if (log := path.with_suffix(".log")).exists():
            raise _failed(compiler, log)
        _compile(compiler, path, log)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(str(error), tried=True) from error


def is_built() -> bool:
    """Whether the decoder can be had at once."""
    compiler = _compiler()
    return compiler is not None and _path(compiler).exists()


def failure() -> str:
    """Why an earlier compilation failed, as `BuildError` says it; empty where none did."""
    compiler = _compiler()
    if compiler and not (path := _path(compiler)).exists() and (log := path.with_suffix(".log")).exists():
        return str(_failed(compiler, log))
    return ""


def _failed(compiler: str, log: Path) -> BuildError:
    return BuildError(
        f"{compiler} failed to compile it, and {log} has the compiler's output; delete that file to try again",
        tried=True,
    )


def _compiler() -> str | None:
    """The compiler's command, unless it is Microsoft's, whose flags are other ones."""
    return None if os.name == "nt" else cpp_compiler()


def _path(compiler: str) -> Path:
    return cache_folder() / f"decoder-{_digest(compiler)}.so"


@cache
def _digest(compiler: str) -> str:
    """What the compiled file depends on: the source, how it is compiled, and the processor."""
    parts = [*(file.read_bytes() for file in sorted(SOURCES.glob("*.[ch]*"))), *(flag.encode() for flag in FLAGS)]
    version = subprocess.run([*shlex.split(compiler), "--version"], capture_output=True, check=False).stdout
    parts += [compiler.encode(), version, platform.machine().encode(), cpu_name().encode(), cpu_flags().encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _compile(compiler: str, path: Path, log: Path) -> None:
    native = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / path.name
            command = [*shlex.split(compiler), *FLAGS, native, str(SOURCES / "decoder.cpp"), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
            if done.returncode or not made.exists():
                said = done.stdout + done.stderr or "The compiler does not say why.\n"
                write_atomic(log, f"{shlex.join(command)}\nexit code {done.returncode}\n{said}")
                raise _failed(compiler, log)
            write_atomic(path, made.read_bytes())
    except (OSError, InputError) as error:
        raise BuildError(str(error), tried=True) from error
