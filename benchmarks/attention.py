"""Written-out against fused attention, forward and backward, on this device, eager and compiled."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

from benchmarks.common import Report, Table, say

# Windows x context.
SHAPES = ("12x64", "32x64", "16x128", "32x128", "8x256", "16x256", "8x512", "4x1024")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), metavar="BxT")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--head-size", type=int, default=64)
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--seconds", type=float, default=1.0, help="of trying, for each number")
    parser.add_argument("--no-compile", action="store_true")


def run(options: argparse.Namespace) -> Report:
    import torch

    from quoth.model.attention import prefer_fused
    from quoth.system.device import choose

    hardware = choose(dtype=options.dtype, compile=False if options.no_compile else None)
    ways = [("eager", False), *([("compiled", True)] if hardware.compile else [])]
    kinds = [("written out", False), ("fused", True)]
    columns = ["windows x context", *(f"{kind}, {way}" for way, _ in ways for kind, _ in kinds), "the model takes"]
    table = Table("Milliseconds, median", columns)
    values = {}
    for shape in options.shapes:
        B, T = map(int, shape.split("x"))
        say(shape)
        size, where = (B, options.heads, T, options.head_size), hardware.device
        times = [
            1000 * _median_seconds(_work(size, where, hardware.dtype, fused, compiled), where, options.seconds)
            for _, compiled in ways
            for _, fused in kinds
        ]
        chosen = "fused" if prefer_fused(torch.empty(B, T, 1, device=where), training=True) else "written out"
        table.rows.append([shape, *(f"{ms:.3f}" for ms in times), chosen])
        values[shape] = dict(zip(columns[1:-1], times, strict=True))
    note = f"{options.heads} heads of {options.head_size}, {hardware.dtype} on {where}, {hardware.threads} thread(s)."
    return Report([table], {"milliseconds": values, "dtype": hardware.dtype, "threads": hardware.threads}, [note])


def _work(
    size: tuple[int, int, int, int], device: str, dtype: str, fused: bool, compiled: bool
) -> Callable[[], object]:
    import torch

    from quoth.model.attention import attend
    from quoth.system.device import DTYPES

    q, k, v, gradient = (torch.randn(size, device=device, dtype=DTYPES[dtype], requires_grad=i < 3) for i in range(4))
    torch.compiler.reset()  # Else many shapes in one process end in "too many recompilations", and run eagerly.
    attention = torch.compile(attend, dynamic=False) if compiled else attend
    return lambda: torch.autograd.grad(attention(q, k, v, fused=fused), (q, k, v), gradient)


def _median_seconds(work: Callable[[], object], device: str, seconds: float) -> float:
    from quoth.system.device import synchronize

    for _ in range(3):
        work()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        synchronize(device)
        began = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - began)
    return median(times)
