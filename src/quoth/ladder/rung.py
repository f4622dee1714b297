"""A rung of the lecture: a config and a block, trained by the shipped loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from quoth.model.config import family
from quoth.model.gpt import GPT, Block
from quoth.system.errors import InputError
from quoth.text.corpus import Corpus
from quoth.train.loop import Step, fit
from quoth.train.objectives import next_token
from quoth.train.optimizers import OptimizerConfig, make_optimizer

# What the lecture's small models share.
SMALL: dict[str, Any] = {"context": 8, "width": 32, "layers": 1, "heads": 1, "norm": "none", "dropout": 0.0}
BATCH = 32


@dataclass(frozen=True)
class Rung:
    """What one rung is: how it differs from the lecture's small shape, and what the lecture reached with it.

    `block` makes a layer from a config and a factor for the scores (None for 1 / √K). `finish` changes the
    model once its layers are made.
    """

    name: str
    changed: str
    lecture_loss: float | None = None
    config: dict[str, Any] = field(default_factory=dict)
    block: Callable[..., nn.Module] = lambda c, scale: Block(c)
    finish: Callable[[GPT], GPT] = lambda model: model
    steps: int = 5000
    learning_rate: float = 1e-3

    def model(self, vocabulary: int, seed: int, *, faithful: bool = False) -> GPT:
        """The model before training.

        A `faithful` model is the one that the lecture's film shows: PyTorch's initialisation, and scores over √C. Any
        other has scores over √K and, where there are norms, small first weights, as in the lecture's last script;
        without norms small weights learn slowly.
        """
        torch.manual_seed(seed)
        shape = {**SMALL, **self.config}
        initialization = "torch" if faithful or shape["norm"] == "none" else "normal"
        c = family("lecture", vocabulary=vocabulary, **{"initialization": initialization, **shape})
        scale = c.width**-0.5 if faithful else None
        return self.finish(GPT(c, block=lambda c: self.block(c, scale)))

    def train(self, model: GPT, corpus: Corpus, seed: int, steps: int = 0) -> Iterator[Step]:
        """Train as the lecture does: AdamW at one learning rate, 32 windows of 8 a step.

        Raises:
            InputError: the text is too short.
        """
        T = model.config.context
        if min(len(corpus.train), len(corpus.validation)) <= T:
            raise InputError(
                f"The rung {self.name} needs at least {T + 1} tokens in both splits, so some {11 * (T + 1)} in all; "
                f"{corpus.name} has {len(corpus.train)} and {len(corpus.validation)}."
            )
        rates = {"learning_rate": self.learning_rate, "embedding_learning_rate": self.learning_rate}
        adamw = OptimizerConfig(optimizer="adamw", weight_decay=0.01, beta2=0.999, **rates)
        return fit(
            model,
            make_optimizer(model, adamw),
            corpus.batches(BATCH, T, seed=seed),
            next_token,
            steps=steps or self.steps,
            schedule=lambda progress: 1.0,
        )
