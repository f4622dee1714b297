"""The text before there is any model: how long, which characters, and what guessing by their frequency alone costs."""

from __future__ import annotations

from collections.abc import Iterator
from math import log

import torch
from torch import Tensor

from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Show, Table


def frequencies(token_N: Tensor, vocabulary: int) -> Tensor:
    """How often each token is used: (V,), summing to 1."""
    return torch.bincount(token_N, minlength=vocabulary).double() / len(token_N)


def unigram_loss(p_V: Tensor) -> float:
    """The entropy: what it costs, in nats per token, to know how often each token is used and nothing else."""
    return float(-torch.special.xlogy(p_V, p_V).sum())


def explain(lesson: Lesson) -> Iterator[Part]:
    """The first lines, the alphabet, and the loss of the simplest guess there is."""
    V = lesson.tokenizer.vocabulary
    yield Say(f"{len(lesson.train):,} tokens to learn from, of a vocabulary of {V}. They begin:")
    yield Say(lesson.read(lesson.train[:250].tolist()))
    yield Show("your text as ids", lesson.ids)
    p_V = frequencies(lesson.train, V)
    most, least = p_V.argsort(descending=True)[:8], p_V.argsort()[:4]
    rows = [(name, f"{p_V[i]:.2%}") for i in (*most, *least) for name in lesson.names(i[None])]
    yield Table("The most used, and the least", ["token", "share"], rows)
    yield Say(
        f"A guess that knows nothing costs ln {V} = {log(V):.3f} nats a token. To know how often each is used brings "
        f"it to {unigram_loss(p_V):.3f}; all that a model does better than that, it has from what stands before."
    )
