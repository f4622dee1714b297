"""The events that a run reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from quoth.recipes.stage import Judgement

Stop = Literal["", "interrupted", "terminated"]
STOPS: tuple[Stop, ...] = ("", "interrupted", "terminated")


@dataclass(frozen=True)
class Ready:
    """The model is ready to train: preparing it, and compiling it if `compiled`, took `seconds`."""

    step: int
    seconds: float
    compiled: bool


@dataclass(frozen=True)
class Trained:
    """A step moved the weights; `loss` is a running mean, `progress` the share of the budget used before the step."""

    step: int
    progress: float
    loss: float
    tokens_per_second: float


@dataclass(frozen=True)
class Evaluated:
    """The model was evaluated; `train_loss` is a running mean, or None before the first step."""

    step: int
    progress: float
    train_loss: float | None
    judgement: Judgement


@dataclass(frozen=True)
class Sampled:
    """The model wrote a sample, which is `text`."""

    step: int
    progress: float
    text: str


@dataclass(frozen=True)
class Note:
    """A sentence that a person should read."""

    step: int
    text: str


@dataclass(frozen=True)
class Finished:
    """The run has ended; `summary` is the content of `summary.json`."""

    step: int
    summary: Mapping[str, Any]


Event = Ready | Trained | Evaluated | Sampled | Note | Finished
