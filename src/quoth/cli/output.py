"""What a person sees, and what a program reads: one JSON object on stdout, everything else on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
from typing import Any

from rich.console import Console


def console(as_json: bool) -> Console:
    """Where words for a person go: stdout, or stderr when stdout is for JSON."""
    return Console(stderr=as_json, highlight=False, soft_wrap=True)


def is_live(screen: Console) -> bool:
    """Whether a line may be drawn over: on a terminal, outside CI, unless NO_COLOR is set."""
    return screen.is_terminal and not os.environ.get("CI") and not os.environ.get("NO_COLOR")


def print_json(value: dict[str, Any]) -> None:
    """One object on stdout; what JSON cannot say, NaN and infinity, is null."""
    sys.stdout.write(json.dumps(_plain(value), ensure_ascii=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> duration(178.4), duration(42), duration(7260)
    ('2 min 58 s', '42 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(number: float) -> str:
    """A large number, shortened.

    >>> count(1_803_000), count(950)
    ('1.8M', '950')
    """
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.1f}{unit}"
    return f"{number:.0f}"
