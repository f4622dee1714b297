"""The error whose message is written for the user, and helpers for such messages."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable

# The environment variable in which a launcher names a file.
REFUSED = "QUOTH_REFUSED"


class InputError(Exception):
    """An input cannot be used; the message is one clear sentence on what was wanted and what was given."""

    worth_another_try = False


class Interrupted(Exception):  # noqa: N818
    """A long computation was told to stop."""


def refused() -> int:
    """The exit code of a process whose command was refused: 2.

    In a launched process it is 0, since for any other code the launcher would start all processes again; the process
    then writes a file that tells the launcher of the refusal.
    """
    if not (file := os.environ.get(REFUSED)):
        return 2
    with open(file, "w", encoding="utf-8"):
        return 0


def suggestion(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` if a known word is close to the given one, else ` (there is x, y)`.

    >>> suggestion("shakespear", ["shakespeare", "plays"])
    " (did you mean 'shakespeare'?)"
    """
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    return f" (did you mean {close[0]!r}?)" if close else f" (there is {', '.join(names)})"


def short(value: object) -> str:
    """A value as shown in a message, cut to 80 characters.

    >>> short("no"), len(short("no" * 1000))
    ("'no'", 80)
    """
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= 80 else shown[:77] + "..."


def plain(name: str) -> str:
    """A name from a file as shown in a message: as it is, unless it is long or would break the line."""
    return name if name.isprintable() and 0 < len(name) <= 80 else short(name)


def one_line(error: BaseException) -> str:
    """The message of another library's error in one line of at most 300 characters, without a full stop."""
    said = " ".join(str(error).split()) or type(error).__name__
    return (said if len(said) <= 300 else said[:297] + "...").rstrip(".")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, torch or a GPU ran out of memory; on a CPU torch raises a plain RuntimeError."""
    said = ("out of memory", "allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(s in str(error) for s in said))
