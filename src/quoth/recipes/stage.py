"""A stage of training: what is learned from, what is made small, how it is judged, and what it writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from quoth.model.gpt import GPT
from quoth.text.batches import Batch, BatchSource
from quoth.text.tokenizer import Tokenizer
from quoth.train.objectives import Objective


@dataclass(frozen=True)
class Judgement:
    """How good a model is: the least `loss` is the best; `metrics` are logged beside it, by their names."""

    loss: float
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """All that a session knows of what is learned; pretraining is one (`recipes/pretraining.py`).

    Attributes:
        batches: `[step]` is that step's microbatches. A source may look at the model as it is then.
        objective: what is made small, as a sum over targets.
        judge: the model's judgement, which is asked from time to time. It asks its second argument before each batch,
            and raises `Interrupted` where the answer is no.
        sample: what the model writes with so many tokens, for a person to see.
        example: a microbatch of the usual shape, for a rehearsal; its content does not matter.
        tokens_per_step: targets of all ranks in a step.
        tokenizer: it is saved with the model.
        data: the name of what is learned from.
        about: it in a line, for a person.
        facts: what the numbers depend on: hashes of what is read.
        published: who reached which loss on it.
    """

    batches: BatchSource
    objective: Objective
    judge: Callable[[GPT, Callable[[], bool]], Judgement]
    sample: Callable[[GPT, int], str]
    example: Callable[[], Batch]
    tokens_per_step: int
    tokenizer: Tokenizer
    data: str
    about: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    published: tuple[tuple[str, float], ...] = ()
