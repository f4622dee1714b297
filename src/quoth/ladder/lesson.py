"""What a topic explains itself with: a text, a corpus to learn from, and small models trained in seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from quoth.ladder.rung import Rung
from quoth.model.gpt import GPT
from quoth.system.errors import InputError
from quoth.text.corpus import Corpus
from quoth.text.tokenizer import Tokenizer, decode
from quoth.train.evaluate import evaluate

SHORTEST = 9


@dataclass(frozen=True)
class Lesson:
    """A text of the user's, in the corpus's tokens. All that is random comes from the seed.

    Raises InputError for a character that the tokenizer does not know, and for too short a text.
    """

    text: str
    corpus: Corpus
    seed: int = 1337

    def __post_init__(self) -> None:
        if len(self.ids) < SHORTEST:
            raise InputError(f"The text has {len(self.ids)} tokens, but a topic needs at least {SHORTEST}.")

    @property
    def tokenizer(self) -> Tokenizer:
        return self.corpus.tokenizer

    @cached_property
    def ids(self) -> Tensor:
        """The text's tokens, (T,)."""
        return torch.from_numpy(self.tokenizer.encode(self.text).astype(np.int64))

    @cached_property
    def train(self) -> Tensor:
        """The corpus's training split, (N,)."""
        return torch.from_numpy(np.asarray(self.corpus.train).astype(np.int64))

    def read(self, ids: Iterable[int]) -> str:
        """The text of ids."""
        return decode(self.tokenizer, ids)

    def names(self, token_T: Tensor) -> list[str]:
        """Tokens as they can be read, quoted."""
        return [repr(self.tokenizer.pieces[int(t)].decode("utf-8", "replace")) for t in token_T]

    def vectors(self, T: int, C: int = 2) -> Tensor:
        """A random vector for each of the first tokens, (T, C), the same for the same token."""
        rng = torch.Generator().manual_seed(self.seed)
        table_VC = torch.randn(self.tokenizer.vocabulary, C, generator=rng)
        return table_VC[self.ids[:T]]

    def untrained(self, rung: Rung) -> GPT:
        """A rung's model at its start."""
        return rung.model(self.tokenizer.vocabulary, self.seed)

    def trained(self, rung: Rung, steps: int) -> GPT:
        """A rung's model after some steps."""
        model = self.untrained(rung)
        deque(rung.train(model, self.corpus, self.seed, steps), maxlen=0)
        return model.eval()

    def loss(self, model: GPT, split: str = "validation") -> float:
        """Nats per token over a whole split."""
        T, tokens = model.config.context, getattr(self.corpus, split)
        return evaluate(model, tokens, self.tokenizer, context=T, batch=1024).loss
