"""Where a run stands: all of it that is not in weights and optimizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType
from typing import Any

from quoth.system.errors import InputError


@dataclass
class RunState:
    """Saved as `state.json` in every checkpoint.

    Nothing of chance is in it: batches and dropout are functions of the seed and of a batch's place, so `step` and
    `dropped` say all about them.

    Attributes:
        step: how many steps are done.
        dropped: how many batches were passed over, so that step n learns from batch n + dropped.
        seconds: of the time given, how much is used.
        training_seconds: how much of that was spent since training began, evaluations and checkpoints included.
        step_seconds: how much of that was spent in steps alone.
        train_loss: a running mean.
        validation_loss: of the last evaluation.
        best: the least validation loss, after `best_step` steps, with what was measured beside it in `best_metrics`.
        first_loss: the validation loss before training.
        worse: evaluations in a row without a new best.
        bad: steps in a row that were left out.
        returns: how often the run went back to a checkpoint, since it last got past `furthest`.
        furthest: the step that it went back from.
        losses: what spikes are judged by.
        pace: after which step each 256th part of the time began, in a run by the clock.
        notes: which remarks were made.
    """

    step: int = 0
    dropped: int = 0
    seconds: float = 0.0
    training_seconds: float = 0.0
    step_seconds: float = 0.0
    train_loss: float | None = None
    validation_loss: float | None = None
    best: float | None = None
    best_step: int = 0
    best_metrics: dict[str, float] = field(default_factory=dict)
    first_loss: float | None = None
    worse: int = 0
    bad: int = 0
    returns: int = 0
    furthest: int = 0
    losses: list[float] = field(default_factory=list)
    pace: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def judged(self, loss: float, metrics: Mapping[str, float] = MappingProxyType({})) -> bool:
        """Take in a validation loss, and what was measured beside it; whether it is the best so far."""
        self.validation_loss = loss
        if self.step == 0:
            self.first_loss = loss
        is_best = isfinite(loss) and (self.best is None or loss < self.best or self.best_step == self.step)
        self.worse = 0 if is_best else self.worse + 1
        if is_best:
            self.best, self.best_step, self.best_metrics = loss, self.step, dict(metrics)
        return is_best

    def learned(self, loss: float) -> None:
        """Take in the loss of a step that moved weights: a running mean of some fifty, of fewer at first."""
        self.bad = 0
        if self.step > self.furthest:
            self.returns = 0
        before = self.train_loss
        self.train_loss = loss if before is None else before + (loss - before) * max(0.02, 1 / self.step)

    def goes_back_from(self, before: RunState, step: int) -> None:
        """Be the state of a run that was at `step`, and goes on from here with the batches that come after that.

        What was found out by evaluating until here stays known; a checkpoint is written before its evaluation.
        """
        self.dropped = before.dropped + step - self.step
        self.returns, self.furthest, self.bad = before.returns + 1, max(before.furthest, step), 0
        self.notes, self.first_loss = before.notes, before.first_loss
        if before.best_step <= self.step:
            self.best, self.best_step, self.best_metrics = before.best, before.best_step, before.best_metrics


def read_state(values: dict[str, Any]) -> RunState:
    """The state that a checkpoint holds.

    Raises:
        InputError: it is not one of this version.
    """
    names = {f.name for f in dataclasses.fields(RunState)}
    if missing := names - set(values):
        raise InputError(f"The checkpoint's state.json says nothing of {min(missing)}, so a run cannot go on from it.")
    return RunState(**{name: value for name, value in values.items() if name in names})
