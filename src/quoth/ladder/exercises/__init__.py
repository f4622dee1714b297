"""Exercises, two or three a topic, checked by what they compute."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from quoth.ladder.topics import TOPICS
from quoth.system.errors import InputError, suggestion

if TYPE_CHECKING:
    from quoth.ladder.exercises.exercise import Exercise


def exercises() -> dict[str, Exercise]:
    """All of them by name, a topic's name and a number, in the lecture's order."""
    found: dict[str, Exercise] = {}
    for topic in TOPICS:
        module = import_module(f"{__name__}.{topic.replace('-', '_')}")
        found |= {f"{topic}-{number}": exercise for number, exercise in enumerate(module.EXERCISES, 1)}
    return found


def named(name: str) -> Exercise:
    """The exercise of a name.

    Raises:
        InputError: there is none.
    """
    known = exercises()
    if name not in known:
        raise InputError(f"There is no exercise {name!r}{suggestion(name, known)}.")
    return known[name]
