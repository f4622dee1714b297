"""Exercises, two or three a topic, checked by what they compute."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from quoth.ladder.topics import TOPICS
from quoth.system.errors import InputError, suggestion

if TYPE_CHECKING:
    from quoth.ladder.checker.exercise import Exercise


def exercises() -> dict[str, Exercise]:
    """All of them by name, a topic's name and a number, in the lecture's order."""
    return {name: exercise for topic in TOPICS for name, exercise in _of(topic).items()}


def named(name: str) -> Exercise:
    """The exercise of a name; only its topic is imported.

    Raises:
        InputError: there is none.
    """
    topic = name.rpartition("-")[0]
    if topic in TOPICS and name in (known := _of(topic)):
        return known[name]
    raise InputError(f"There is no exercise {name!r}{suggestion(name, exercises())}.")


def _of(topic: str) -> dict[str, Exercise]:
    module = import_module(f"{__name__}.{topic.replace('-', '_')}")
    return {f"{topic}-{number}": exercise for number, exercise in enumerate(module.EXERCISES, 1)}
