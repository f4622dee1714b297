"""What a topic explains itself with: a text, a corpus to learn from, and small models trained in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from quoth.ladder.excerpt import Excerpt
from quoth.ladder.rung import SMALL, Rung
from quoth.ladder.topics import MOST_SHOWN
from quoth.ladder.training import M, Progress, folder_for, learn
from quoth.model.gpt import GPT
from quoth.train.evaluate import evaluate
from quoth.train.loop import Step


@dataclass(frozen=True)
class Lesson(Excerpt):
    """A text of the user's, and a corpus for small models.

    Attributes:
        progress: is called with what is being done, how many steps of it are done, and how many there are.
    """

    progress: Progress = lambda about, done, total: None

    @cached_property
    def train(self) -> Tensor:
        """The corpus's training split, (N,)."""
        return torch.from_numpy(np.asarray(self.corpus.train).astype(np.int64))

    def holding(self, rung: Rung) -> Rung:
        """The rung with a context that holds all tokens that are shown: the lecture's 8, or `MOST_SHOWN`."""
        context = SMALL["context"] if len(self.ids) <= SMALL["context"] else MOST_SHOWN
        return replace(rung, config={**rung.config, "context": context})

    def untrained(self, rung: Rung) -> GPT:
        """A rung's model at its start."""
        return rung.model(self.tokenizer.vocabulary, self.seed)

    def trained(self, rung: Rung, steps: int) -> GPT:
        """A rung's model after some steps."""
        model = self.untrained(rung)
        training = rung.train(model, self.corpus, self.seed, steps)
        return self.learn(model, rung.name, training, steps, self.train[None, :8], rung.learning_rate)

    def learn(self, model: M, name: str, training: Iterator[Step], steps: int, x_BT: Tensor, *decides: object) -> M:
        """A model after so many steps of training, or with the weights that the same training gave it before.

        Models are told apart by their logits for `x_BT` and by what else decides their weights; see `folder_for`.
        """
        folder = folder_for(model, x_BT, np.asarray(self.corpus.train), name, self.seed, steps, *decides)
        learn(model, training, steps, folder, f"training {name}", self.progress)
        torch.manual_seed(self.seed)  # What is drawn next does not depend on whether the model was trained just now.
        return model

    def loss(self, model: GPT, split: str = "validation") -> float:
        """Nats per token over a whole split."""
        self.progress(f"judging by the {split} split", 0, 1)
        T, tokens = model.config.context, getattr(self.corpus, split)
        return evaluate(model, tokens, self.tokenizer, context=T, batch=1024).loss
