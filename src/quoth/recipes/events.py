"""What a run tells while it goes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from quoth.train.evaluate import Evaluation

Stop = Literal["", "interrupted", "terminated"]
STOPS: tuple[Stop, ...] = ("", "interrupted", "terminated")


@dataclass(frozen=True)
class Event:
    """Something that happened in a run; `kind` is ready, step, evaluated, sampled, note or finished."""

    kind: str
    step: int = 0
    progress: float = 0.0
    loss: float = 0.0
    tokens_per_second: float = 0.0
    evaluation: Evaluation | None = None
    text: str = ""
    summary: dict[str, Any] = field(default_factory=dict)
