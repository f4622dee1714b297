"""A stage of training: its data, its objective, how the model is evaluated, and what the model writes as a sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from quoth.model.gpt import GPT
from quoth.text.batches import Batch, BatchSource
from quoth.text.tokenizer import Tokenizer
from quoth.train.objectives import Objective


@dataclass(frozen=True)
class Judgement:
    """How good a model is: a lower `loss` is better; `metrics` are logged beside the loss, under their names."""

    loss: float
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Watch:
    """What a stage reports beside a step: `metrics` to log, and `remarks` for a person, each with its kind."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    remarks: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Stage:
    """All that a session knows about what the model learns. Pretraining is a stage (`recipes/pretraining.py`).

    Attributes:
        batches: `batches[step]` is the list of that step's microbatches, and may depend on the model at that step.
        objective: the loss to minimize, as a sum over targets.
        judge: evaluates the model, which is the policy if it is trained beside a critic. It calls its second argument
            before each batch, and raises `Interrupted` when that returns false.
        sample: returns a text that the model writes, of the given number of tokens, for a person to read. It calls its
            third argument with a sentence if something makes it slow.
        example: returns a microbatch of the usual shape for a trial of the compiled model; its content does not matter.
        tokens_per_step: the number of targets of all ranks in a step.
        tokenizer: the tokenizer that is saved with the model.
        data: the name of the training data.
        about: one line that describes the training data for a person.
        facts: what the numbers depend on, such as hashes of the data.
        published: losses that others reached on this data, each with a name.
        per_step: what a step learns from, in words.
        loss_is: what the loss of a judgement is, in words.
        try_it: a command that shows what the model has learned, with {} for the run.
        model: what is trained, with the weights that it begins with; without it, a new model of the recipe's config.
        period: a step whose number is a multiple of this needs only the weights to get its batches. A run saves,
            evaluates and stops at such steps alone.
        watch: called after the last step of each period.
    """

    batches: BatchSource
    objective: Objective
    judge: Callable[[GPT, Callable[[], bool]], Judgement]
    sample: Callable[[GPT, int, Callable[[str], None]], str]
    example: Callable[[], Batch]
    tokens_per_step: int
    tokenizer: Tokenizer
    data: str
    about: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    published: tuple[tuple[str, float], ...] = ()
    per_step: str = ""
    loss_is: str = "nats per token, over the whole validation split"
    try_it: str = 'quoth sample {} --prompt "..."'
    model: nn.Module | None = None
    period: int = 1
    watch: Callable[[], Watch] = Watch
