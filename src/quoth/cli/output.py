"""The output of commands: lines and tables for a person, or one JSON object on stdout and all else on stderr."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import textwrap
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console


def console(as_json: bool) -> Console:
    """The console for lines that a person reads: stdout, or stderr when stdout is for JSON."""
    stream = sys.stderr if as_json else sys.stdout
    # Without colours rich would still write bold text, so the colour system is None. Lines for a file are not wrapped.
    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    return Console(stderr=as_json, highlight=False, color_system=colours, soft_wrap=not stream.isatty())


def width() -> int | None:
    """The number of columns of stdout's terminal, or None if stdout is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def columns(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> Iterator[str]:
    """The rows as lines with aligned columns; columns whose numbers are in `right` are right-aligned.

    >>> list(columns([["a", "10"], ["bcd", "9"]], right={1}))
    ['a    10', 'bcd   9']
    """
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        gaps = [" " * (wide - cell_len(cell)) for wide, cell in zip(widths, row, strict=True)]
        cells = (gap + cell if i in right else cell + gap for i, (cell, gap) in enumerate(zip(row, gaps, strict=True)))
        yield "  ".join(cells).rstrip()


def wrapped(text: str, hang: int = 2) -> str:
    """A text broken into indented lines of at most the terminal's width or 100 columns.

    `hang` is the indentation of every line but the first, in columns.
    """
    wide = min(width() or 100, 100)
    hung = " " * hang
    return textwrap.fill(
        text, wide, initial_indent="  ", subsequent_indent=hung, break_long_words=False, break_on_hyphens=False
    )


def is_live(screen: Console) -> bool:
    """Whether lines may be redrawn: only on a terminal, outside CI, and if NO_COLOR is not set."""
    return screen.is_terminal and not os.environ.get("CI") and not os.environ.get("NO_COLOR")


def warn(text: str) -> None:
    """Print a sentence on stderr, beside the command's answer."""
    console(True).print(text, style="yellow", markup=False)


def print_json(value: dict[str, Any]) -> None:
    """Print one object on stdout, with null for NaN and infinity, which JSON does not have."""
    sys.stdout.write(json.dumps(plain(value), ensure_ascii=False) + "\n")


def plain(value: Any) -> Any:
    """The value with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
