"""Tiny runs, for tests."""

from __future__ import annotations

import time
from typing import Any

from quoth.recipes.session import Session
from quoth.recipes.start import start

FLAGS: dict[str, Any] = dict(
    layers=1, width=32, context=32, batch=4, sample_tokens=12, compile="off", threads=1, dtype="float32", device="cpu"
)


def begin(out: str | None = "run", **changes: Any) -> Session:
    return start("laptop", None, {"data": "text.txt", **FLAGS, **changes}, out, None, time.monotonic())


def resume(run: str = "run", **flags: Any) -> Session:
    return start("laptop", None, flags, None, run, time.monotonic())
