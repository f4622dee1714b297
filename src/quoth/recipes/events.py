"""What a run tells while it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from quoth.recipes.stage import Judgement

Stop = Literal["", "interrupted", "terminated"]
STOPS: tuple[Stop, ...] = ("", "interrupted", "terminated")


@dataclass(frozen=True)
class Ready:
    """The model was prepared, and compiled where that is done, in so many seconds."""

    step: int
    seconds: float
    compiled: bool


@dataclass(frozen=True)
class Trained:
    """A step moved the weights; `loss` is a running mean, `progress` the share of the budget that was used before."""

    step: int
    progress: float
    loss: float
    tokens_per_second: float


@dataclass(frozen=True)
class Evaluated:
    """The model was judged; `train_loss` is a running mean, None before the first step."""

    step: int
    progress: float
    train_loss: float | None
    judgement: Judgement


@dataclass(frozen=True)
class Sampled:
    """The model wrote something."""

    step: int
    progress: float
    text: str


@dataclass(frozen=True)
class Note:
    """Something that a person should know."""

    step: int
    text: str


@dataclass(frozen=True)
class Finished:
    """The run has ended; the summary is what `summary.json` holds."""

    step: int
    summary: Mapping[str, Any]


Event = Ready | Trained | Evaluated | Sampled | Note | Finished
