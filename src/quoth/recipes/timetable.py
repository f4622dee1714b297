"""When a run evaluates and saves, and how long it may train."""

from __future__ import annotations

import time
from math import inf

from quoth.recipes.recipe import RunConfig
from quoth.recipes.state import RunState
from quoth.train.schedule import Budget, Clock, Pace, Steps

EVALUATION_SHARE = 0.03
# The speed at which a checkpoint is copied, written, synced, read back and hashed.
SAVED_BYTES_PER_SECOND = 2e8
# Seconds between evaluations; nobody could read them more often.
SHORTEST_PAUSE = 2.0


class Timetable:
    """The moments of a run that began at `started`, by `time.monotonic()`; all times are in seconds.

    Args:
        checkpoint: the size of the last checkpoint in bytes.

    Attributes:
        evaluation_seconds: how long the last evaluation took, with its checkpoint and its sample.
    """

    def __init__(self, run: RunConfig, started: float, checkpoint: int = 0) -> None:
        self.run, self.started, self.evaluation_seconds = run, started, 0.0
        self.saving_seconds = checkpoint / SAVED_BYTES_PER_SECOND
        self._next_evaluation = self._next_save = inf

    def begin(self) -> None:
        """Record that training begins."""
        self.evaluated(self.evaluation_seconds)
        self.saved()

    def evaluated(self, seconds: float) -> None:
        """Record how long an evaluation took. Evaluations take EVALUATION_SHARE of the time; the first come early."""
        self.evaluation_seconds = seconds
        self._next_evaluation = time.monotonic() + max(seconds / EVALUATION_SHARE, SHORTEST_PAUSE)

    def saved(self) -> None:
        """Record that a checkpoint was begun."""
        self._next_save = time.monotonic() + 60 * self.run.checkpoint_minutes

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is due after a step."""
        every = self.run.checkpoint_every
        return time.monotonic() >= self._next_save or bool(every and step % every == 0)

    def evaluates(self, step: int) -> bool:
        """Whether an evaluation is due after a step."""
        if self.run.evaluate_every:
            return step % self.run.evaluate_every == 0
        now = time.monotonic()
        # The last evaluation comes anyway; another right before it would delay it past the end.
        late = self.run.minutes and now + 3 * self.evaluation_seconds > self.started + 60 * self.run.minutes
        return now >= self._next_evaluation and not late

    def budget(self, state: RunState) -> Budget:
        """The budget for training from `state` on; if minutes are given, it leaves time for the last evaluation."""
        if self.run.pace:
            return Pace.parse(self.run.pace)
        if self.run.steps:
            return Steps(self.run.steps)
        reserve, used = 1.2 * self.evaluation_seconds + self.saving_seconds + 2.0, state.training_seconds
        left = self.started + 60 * self.run.minutes - time.monotonic() - reserve
        return Clock(max(left, 1.0 if state.step == 0 else 0.0) + used, used=used, pace=state.pace)
