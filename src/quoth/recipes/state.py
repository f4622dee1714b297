"""The state of a run, besides weights and optimizer."""

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
    """The state of a run, which is saved as `state.json` in every checkpoint.

    It holds no state of random numbers: batches and dropout are functions of the seed and of a batch's number, so
    `step` and `dropped` are enough to repeat them.

    Attributes:
        step: how many steps are done.
        dropped: how many batches were skipped, so that step n learns from batch n + dropped.
        seconds: how many seconds of the run's time are used.
        training_seconds: how many of these passed since training began, evaluations and checkpoints included.
        step_seconds: how many of these were spent in steps alone.
        train_loss: the running mean of the training loss.
        validation_loss: the validation loss of the last evaluation.
        best: the lowest validation loss, which was reached after `best_step` steps, with other metrics in
            `best_metrics`.
        first_loss: the validation loss before training.
        worse: how many evaluations in a row had no new best loss.
        bad: how many steps in a row were left out.
        returns: how often the run went back to a checkpoint since it last got past `furthest`.
        furthest: the last step that the run went back from.
        losses: the recent losses, from which spikes are told.
        pace: the step at which each 256th part of the time began, in a run by the clock.
        progress: the share of the run's steps or time that was used before the last step; -1 before the first.
        notes: the kinds of remarks that were made already.
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
    progress: float = -1.0
    notes: list[str] = field(default_factory=list)

    def judged(self, loss: float, metrics: Mapping[str, float] = MappingProxyType({})) -> bool:
        """Record a validation loss and its metrics; return whether it is the best loss so far."""
        self.validation_loss = loss
        if self.step == 0:
            self.first_loss = loss
        is_best = isfinite(loss) and (self.best is None or loss < self.best or self.best_step == self.step)
        self.worse = 0 if is_best else self.worse + 1
        if is_best:
            self.best, self.best_step, self.best_metrics = loss, self.step, dict(metrics)
        return is_best

    def learned(self, loss: float) -> None:
        """Record the loss of a step that moved weights in a running mean over some fifty steps, at first over fewer."""
        self.bad = 0
        if self.step > self.furthest:
            self.returns = 0
        before = self.train_loss
        self.train_loss = loss if before is None else before + (loss - before) * max(0.02, 1 / self.step)

    def goes_back_from(self, before: RunState, step: int) -> None:
        """Become the state of a run that was at `step` and continues from here with the batches that follow `step`.

        The results of evaluations up to here are taken from `before`, since a checkpoint is written before its
        evaluation.
        """
        self.dropped = before.dropped + step - self.step
        self.returns, self.furthest, self.bad = before.returns + 1, max(before.furthest, step), 0
        self.notes, self.first_loss = before.notes, before.first_loss
        if before.best_step <= self.step:
            self.best, self.best_step, self.best_metrics = before.best, before.best_step, before.best_metrics


def read_state(values: dict[str, Any]) -> RunState:
    """The state that a checkpoint holds.

    Raises:
        InputError: the state is not of this version of quoth.
    """
    names = {f.name for f in dataclasses.fields(RunState)}
    if missing := names - set(values):
        raise InputError(f"The checkpoint's state.json has no {min(missing)}, so a run cannot go on from it.")
    return RunState(**{name: value for name, value in values.items() if name in names})
