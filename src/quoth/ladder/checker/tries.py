"""Which exercises a person has tried, and how often: kept in the user's cache folder."""

from __future__ import annotations

import json
from pathlib import Path

from quoth.system.errors import InputError
from quoth.system.files import cache_folder, write_atomic, writing


def tries(exercise: str) -> int:
    """How often the exercise was checked; 0 where nothing says."""
    try:
        return int(json.loads(_file(exercise).read_text(encoding="utf-8"))["tries"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def count_try(exercise: str) -> None:
    """Count one more.

    Raises:
        InputError: the cache folder may not be written.
    """
    file = _file(exercise)
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, json.dumps({"tries": tries(exercise) + 1}) + "\n")


def need_a_try(exercise: str) -> None:
    """Refuse to tell the solution of what was not tried.

    Raises:
        InputError: the exercise was never checked.
    """
    if not tries(exercise):
        raise InputError(
            f"The solution of {exercise} is shown once you have tried: `quoth exercise {exercise}` prints a file to "
            "begin with, and `quoth exercise check FILE` checks it."
        )


def _file(exercise: str) -> Path:
    return cache_folder() / "exercises" / f"{exercise}.json"
