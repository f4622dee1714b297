"""A run's progress and learning rate: by steps, by the clock, or by the pace of another run."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from quoth.system.errors import InputError

# A run by the clock changes its learning rate this many times, so that the moments of change can be saved and repeated.
LEVELS = 256


class Budget(Protocol):
    """The steps or the time that a run may use."""

    def progress(self, step: int) -> float:
        """The share that is used before step `step` (counted from 0): 0 at the start; at 1 the run is over."""
        ...

    def middle(self, step: int, progress: float) -> float:
        """The share that is used in the middle of step `step`, which begins at `progress`.

        The schedule is evaluated there, so that neither a warm-up's first step nor a cooldown's last has a rate of 0.
        """
        ...


@dataclass(frozen=True)
class Steps:
    """A budget of steps.

    >>> Steps(10).progress(5), Steps(10).middle(5, 0.5)
    (0.5, 0.55)
    """

    steps: int

    def progress(self, step: int) -> float:
        return step / self.steps if self.steps > 0 else 1.0

    def middle(self, step: int, progress: float) -> float:
        return (step + 0.5) / max(1, self.steps)


@dataclass
class Clock:
    """A budget of seconds, which run from the first call of `progress`; `used` of them are used before that.

    Attributes:
        pace: `pace[n]` is the first step that began after n of LEVELS equal parts of the time; the list grows.
    """

    seconds: float
    used: float = 0.0
    now: Callable[[], float] = field(default=time.monotonic)
    pace: list[int] = field(default_factory=list)
    _start: float | None = field(default=None, init=False)

    def progress(self, step: int) -> float:
        if self._start is None:
            self._start = self.now() - self.used
        return (self.now() - self._start) / self.seconds if self.seconds > 0 else 1.0

    def middle(self, step: int, progress: float) -> float:
        level = min(LEVELS - 1, int(LEVELS * progress))
        self.pace += [step] * (level + 1 - len(self.pace))
        return (len(self.pace) - 0.5) / LEVELS


@dataclass(frozen=True)
class Pace:
    """A budget that repeats the steps of a run by the clock: its `pace`, and how many steps it took.

    >>> Pace([0, 3, 3, 7], 10).progress(5), str(Pace.parse("0 3 3 7 10"))
    (0.5, '0 3 3 7 10')
    """

    pace: Sequence[int]
    steps: int

    @classmethod
    def parse(cls, text: str) -> Pace:
        """The pace that `str` wrote as `text`.

        Raises:
            InputError: the text is not a pace.
        """
        try:
            *pace, steps = map(int, text.split())
        except ValueError:
            pace, steps = [], -1
        if steps < 0 or pace != sorted(pace) or len(pace) > LEVELS or pace[:1] != [0] or pace[-1] >= steps:
            raise InputError(
                f"pace must be growing numbers of steps, as a finished run writes them, not {text[:40]!r}."
            )
        return cls(pace, steps)

    def __str__(self) -> str:
        return " ".join(map(str, (*self.pace, self.steps)))

    def progress(self, step: int) -> float:
        return step / self.steps if self.steps > 0 else 1.0

    def middle(self, step: int, progress: float) -> float:
        return (bisect_right(self.pace, step) - 0.5) / LEVELS


def trapezoid(progress: float, warmup: float, cooldown: float) -> float:
    """The share of the peak learning rate: it rises over the first `warmup`, and falls to 0 over the last `cooldown`.

    >>> [trapezoid(p, 0.25, 0.5) for p in (0, 0.125, 0.25, 0.5, 0.75, 1)]
    [0.0, 0.5, 1.0, 1.0, 0.5, 0.0]
    """
    up = progress / warmup if warmup else 1.0
    down = (1 - progress) / cooldown if cooldown else 1.0
    return max(0.0, min(1.0, up, down))
