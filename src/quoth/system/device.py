"""Choose the device, number type and threads that are fastest on this machine, by trying them, and say why."""

from __future__ import annotations

import ctypes
import os
import platform
import shlex
import shutil
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import torch

from quoth.system.errors import InputError

COMPILERS = ("g++", "clang++", "c++", "cl")
MOST_THREADS = 1024
# Linux's names for a processor's bfloat16 instructions: those of x86, then that of Arm.
BFLOAT16_FLAGS = frozenset(("avx512_bf16", "amx_bf16", "bf16"))
# How often each number type is timed before one is chosen.
ROUNDS = 5
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class Hardware:
    """The choices for a machine, with a sentence for each choice in `reasons`.

    `flops` is the measured speed of a large matrix product in `dtype`, in FLOP/s.
    """

    device: str
    dtype: str
    threads: int
    compile: bool
    flops: float
    reasons: dict[str, str]

    def autocast(self) -> torch.autocast:
        """The context in which a forward pass computes in the chosen number type."""
        return torch.autocast(self.device, DTYPES[self.dtype], enabled=self.dtype != "float32")


def choose(
    device: str = "auto",
    dtype: str = "auto",
    threads: int = 0,
    compile: bool | None = None,  # noqa: A002
    *,
    timed: bool = True,
) -> Hardware:
    """Choose what is left open (auto, 0, None); set torch's number of threads, which then treat tiny numbers as zero.

    The choice is made by timing. If `timed` is false, it is made from what the machine reports about itself, which is
    always the same. This takes under a second.

    Raises:
        InputError: the machine lacks the device, or the number type is unknown.
    """
    reasons: dict[str, str] = {}
    device = _device(device, reasons)
    if dtype not in ("auto", *DTYPES):
        raise InputError(f"dtype must be auto, bfloat16 or float32, not {dtype!r}.")
    if device == "cpu":
        # Numbers too small for the usual format (denormals) cost a processor a hundred times as much as others, and a
        # confident model makes many of them. Threads inherit this setting, so it is made before the first thread.
        torch.set_flush_denormal(True)
        threads = _threads(threads, reasons, timed=timed)
        torch.set_num_threads(threads)
    else:
        threads = torch.get_num_threads()
    dtype, flops = _dtype(device, dtype, reasons, timed=timed)
    if compile is None:
        compile, reasons["compile"] = can_compile(device)  # noqa: A001
    else:
        reasons["compile"] = "as was asked"
    return Hardware(device, dtype, threads, compile, flops, reasons)


def _device(wanted: str, reasons: dict[str, str]) -> str:
    here = ["cpu"]
    if torch.backends.mps.is_available():
        here.insert(0, "mps")
    if torch.cuda.is_available():
        here.insert(0, "cuda")
    if wanted == "auto":
        reasons["device"] = {"cuda": "there is a CUDA device", "mps": "there is an Apple GPU"}.get(
            here[0], "there is no GPU"
        )
        return here[0]
    if wanted not in here:
        raise InputError(f"The device {wanted!r} is not on this machine; there is {', '.join(here)}.")
    reasons["device"] = "as was asked"
    return wanted


def _threads(wanted: int, reasons: dict[str, str], *, timed: bool) -> int:
    if not 0 <= wanted <= MOST_THREADS:
        raise InputError(f"threads must lie in 0 to {MOST_THREADS}, not {wanted}.")
    if wanted:
        reasons["threads"] = "as was asked"
        return wanted
    if (here := cores()) == 1:
        reasons["threads"] = "there is one core"
        return 1
    if not timed:
        reasons["threads"] = f"there are {here} cores"
        return here
    candidates = sorted({max(1, here // 2), here})
    rates = {n: _rate_with_threads(n) for n in candidates}
    best = max(rates, key=lambda n: rates[n])
    tried = ", ".join(f"{n}: {rate / 1e9:,.0f} GFLOP/s" for n, rate in rates.items())
    reasons["threads"] = f"of {here} cores, tried {tried}"
    return best


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> int:
    """The number of CUDA devices."""
    return torch.cuda.device_count()


def be_deterministic() -> None:
    """Make a GPU compute the same bits each time, even if that is slower; a CPU always does."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)


def _rate_with_threads(threads: int) -> float:
    torch.set_num_threads(threads)
    return matmul_flops("cpu", torch.float32, 512, seconds=0.06)


def _dtype(device: str, wanted: str, reasons: dict[str, str], *, timed: bool) -> tuple[str, float]:
    size = 4096 if device == "cuda" else 1024
    if wanted != "auto":
        reasons["dtype"] = "as was asked"
        return wanted, matmul_flops(device, DTYPES[wanted], size)
    if not timed:
        has = _multiplies_bfloat16(device)
        reasons["dtype"] = f"the device {'multiplies' if has else 'does not multiply'} bfloat16 matrices by itself"
        best = "bfloat16" if has else "float32"
        return best, matmul_flops(device, DTYPES[best], size)
    # They are tried in turn, and each is compared with the one beside it: a busy neighbour slows down both, and one
    # trial of float32 that it spared does not decide.
    rounds = [
        {name: matmul_flops(device, kind, size, seconds=0.05) for name, kind in DTYPES.items()} for _ in range(ROUNDS)
    ]
    gain = median(one["bfloat16"] / one["float32"] for one in rounds)
    # Casts take time too, so bfloat16 is chosen only if it is clearly faster.
    best = "bfloat16" if gain > 1.5 else "float32"
    reasons["dtype"] = f"a bfloat16 matrix product takes {1 / gain:.2f} of the time of a float32 one"
    return best, max(one[best] for one in rounds)


def _multiplies_bfloat16(device: str) -> bool:
    """Whether a device reports that it has instructions for multiplying bfloat16 matrices."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device == "cpu" and bool(BFLOAT16_FLAGS.intersection(cpu_flags().split()))


def matmul_flops(device: str, dtype: torch.dtype, size: int, *, seconds: float = 0.1) -> float:
    """The FLOP/s of a square matrix product: the best of many that are timed within `seconds`."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / fastest(lambda: a @ b, device, seconds)


def fastest(work: Callable[[], Any], device: str, seconds: float = 0.1) -> float:
    """The shortest time in seconds that `work` took, in trials for about `seconds` after two warm-ups."""
    best, end = float("inf"), time.perf_counter() + seconds
    for attempt in range(1000):
        start = time.perf_counter()
        work()
        synchronize(device)
        now = time.perf_counter()
        if attempt >= 2:
            best = min(best, now - start)
        if now > end and attempt >= 4:
            break
    return best


def read_seconds(size: int) -> float:
    """How many seconds the CPU's cores together take to read `size` bytes that they have read before."""
    numbers, threads = torch.zeros(max(1, size // 4)), torch.get_num_threads()
    torch.set_num_threads(cores())
    try:
        return fastest(numbers.sum, "cpu", seconds=0.1)
    finally:
        torch.set_num_threads(threads)


def synchronize(device: str) -> None:
    """Wait until the device has finished its work."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


@cache
def can_compile(device: str) -> tuple[bool, str]:
    """Whether torch.compile can work here, and why."""
    if device == "mps":
        return False, "torch.compile is not mature on Apple GPUs"
    if device == "cuda":
        return True, "Triton makes the kernels"
    if not (compiler := cpp_compiler()):
        return (
            False,
            "there is no C++ compiler (on Debian or Ubuntu: apt install g++); "
            "with one, training is 1.5 to 2 times as fast",
        )
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        return False, "Python's headers are missing (on Debian or Ubuntu: apt install python3-dev)"
    return True, f"{compiler} makes the kernels"


def cpp_compiler() -> str | None:
    """The C++ compiler to call: the one that CXX names, or the first of COMPILERS that is installed.

    If CXX is a command such as `ccache g++ -m64`, it is `g++` alone, since torch.compile accepts no more.
    """
    words = [word for word in shlex.split(os.environ.get("CXX", "")) if not word.startswith("-")]
    return next((name for name in (words[-1:] or COMPILERS) if shutil.which(name)), None)


def keep_freed_memory(*, of_any_size: bool = True) -> None:
    """Tell glibc to keep large freed blocks for the next step instead of returning them to the kernel.

    A training step allocates the same tensors again and again, and each fresh page costs a page fault, which took 10%
    of a small model's step on a virtual machine. Where batches differ in shape, large blocks that are kept do not fit
    the next ones: without `of_any_size` those of more than 32 MB are returned. Without glibc nothing happens.
    """
    if platform.system() == "Linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        m_trim_threshold, m_mmap_threshold, m_mmap_max, m_arena_max = -1, -3, -4, -8
        if of_any_size:
            libc.mallopt(m_mmap_max, 0)
        else:
            libc.mallopt(m_mmap_threshold, 2**25)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_arena_max, 1)


def environment() -> dict[str, Any]:
    """The facts that a result depends on besides the settings: versions and the machine."""
    from importlib.metadata import version

    facts: dict[str, Any] = {
        "quoth": version("quoth"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def cpu_name() -> str:
    """The processor's name, or its kind if the system does not tell the name."""
    return _cpu_fact("model name") or platform.processor() or platform.machine()


def cpu_flags() -> str:
    """The processor's features, separated by spaces; empty if the system does not tell them."""
    return _cpu_fact("flags") or _cpu_fact("Features")


def _cpu_fact(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
