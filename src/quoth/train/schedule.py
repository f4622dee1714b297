"""How far a run is, and how large a step it takes there; by steps or by the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


class Budget(Protocol):
    """What a run may use."""

    def progress(self, step: int) -> float:
        """The share that is used before step `step` (from 0): 0 at the start, and at 1 the run is over."""
        ...


@dataclass(frozen=True)
class Steps:
    """A number of steps.

    >>> Steps(10).progress(5)
    0.5
    """

    steps: int

    def progress(self, step: int) -> float:
        return step / self.steps if self.steps > 0 else 1.0


@dataclass
class Clock:
    """A number of seconds from the first time that it is asked, `used` of them already gone."""

    seconds: float
    used: float = 0.0
    now: Callable[[], float] = field(default=time.monotonic)
    _start: float | None = field(default=None, init=False)

    def progress(self, step: int) -> float:
        if self._start is None:
            self._start = self.now() - self.used
        return (self.now() - self._start) / self.seconds if self.seconds > 0 else 1.0


def trapezoid(progress: float, warmup: float, cooldown: float) -> float:
    """The share of the peak learning rate: up along `warmup` of the run, flat, and to zero along the last `cooldown`.

    >>> [trapezoid(p, 0.25, 0.5) for p in (0, 0.125, 0.25, 0.5, 0.75, 1)]
    [0.0, 0.5, 1.0, 1.0, 0.5, 0.0]
    """
    up = progress / warmup if warmup else 1.0
    down = (1 - progress) / cooldown if cooldown else 1.0
    return max(0.0, min(1.0, up, down))
