"""The one error that a person is meant to read."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable

# The environment variable in which a launcher names a file.
REFUSED = "QUOTH_REFUSED"


class InputError(Exception):
    """What was given cannot be used; the message is one clear sentence: what was wanted and what was got."""

    worth_another_try = False


def refused() -> int:
    """The exit code of a process whose command was refused: 2.

    It is 0 where the process was launched, which leaves a file that the launcher looks for: of another code than 0 the
    launcher would start all processes again.
    """
    if not (file := os.environ.get(REFUSED)):
        return 2
    with open(file, "w", encoding="utf-8"):
        return 0


def suggestion(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` where something known is close to the word, else ` (there is x, y)`.

    >>> suggestion("shakespear", ["shakespeare", "plays"])
    " (did you mean 'shakespeare'?)"
    """
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f" (did you mean {close[0]!r}?)" if close else f" (there is {', '.join(names)})"


def short(value: object) -> str:
    """A value in a message, however long it is.

    >>> short("no"), len(short("no" * 1000))
    ("'no'", 80)
    """
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= 80 else shown[:77] + "..."


def plain(name: str) -> str:
    """A name from a file in a message: as it is, unless that would break the line or run on."""
    return name if name.isprintable() and 0 < len(name) <= 80 else short(name)


def one_line(error: BaseException) -> str:
    """What another library's error says, in one line that does not run on, without a full stop."""
    said = " ".join(str(error).split()) or type(error).__name__
    return (said if len(said) <= 300 else said[:297] + "...").rstrip(".")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, torch or a GPU has found no room; torch says so of a CPU by a plain RuntimeError."""
    said = ("out of memory", "allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(s in str(error) for s in said))
