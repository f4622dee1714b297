"""The bigram model: what comes next, by the last token alone. And the same by counting."""

from __future__ import annotations

from collections.abc import Iterator
from math import log

import torch
from torch import Tensor, nn

from quoth.ladder.judge import written
from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Show, Table
from quoth.ladder.rung import Rung
from quoth.model.gpt import GPT
from quoth.model.layers import Embedding


def without_head(model: GPT) -> GPT:
    """Let the embedding be the logits: of a model without layers or positions, row t of a table says what follows t."""
    V = model.config.vocabulary
    model.embed = Embedding(V, V)
    model.head = nn.Identity()  # type: ignore[assignment]
    return model


RUNG = Rung(
    "bigram",
    "A table: what comes next, by the last token alone.",
    lecture_loss=2.5,
    config={"layers": 0, "positions": "none"},
    finish=without_head,
    steps=3000,
    learning_rate=1e-2,
)


def counts(token_N: Tensor, vocabulary: int) -> Tensor:
    """How often each token follows each: (V, V), rows for the first, columns for the second."""
    pairs = token_N[:-1] * vocabulary + token_N[1:]
    return torch.bincount(pairs, minlength=vocabulary**2).view(vocabulary, vocabulary)


def counted_loss(count_VV: Tensor) -> float:
    """The least loss that any bigram can have on the text that was counted: the mean of −log count / row's sum."""
    p_VV = count_VV.double() / count_VV.sum(-1, keepdim=True).clamp(min=1)
    return float(-(count_VV * p_VV.clamp(min=1e-300).log()).sum() / count_VV.sum())


def explain(lesson: Lesson) -> Iterator[Part]:
    """Initial loss, training, samples before and after, and the gap to counting."""
    V = lesson.tokenizer.vocabulary
    yield Say(
        "A table of V × V numbers: the row of a token is the logits of the token after it. Knowing nothing, each of "
        f"{V} tokens is equally likely, which costs ln {V} = {log(V):.3f} nats; a table of N(0, 1) numbers has "
        "opinions already, all of them wrong, and costs more."
    )
    before, after = lesson.untrained(RUNG), lesson.trained(RUNG, steps=1500)
    rows = [(name, lesson.loss(model, "train")) for name, model in (("random", before), ("trained", after))]
    table = counts(lesson.train, V)
    rows.append(("counted", counted_loss(table)))
    yield Table("Loss on the training text, nats per token", ["table", "loss"], rows)
    yield Say(
        "Counting pairs gives the best table for the text that was counted; following gradients alone, training comes "
        f"to within {rows[1][1] - rows[2][1]:.3f} nats of it. A model with attention cannot be counted."
    )
    last = lesson.ids[-1:]
    p_V = after(last[None])[0, 0].softmax(-1).detach()
    best = p_V.topk(min(5, V)).indices
    title, columns = f"What follows {lesson.names(last)[0]}, the text's last token", lesson.names(best)
    yield Show(f"{title}, trained", p_V[best][None], columns=columns)
    yield Show("and counted", table[last[0], best][None] / table[last[0]].sum().clamp(min=1), columns=columns)
    texts = [written(model, lesson.tokenizer, 120, lesson.seed) for model in (before, after)]
    yield Say(f"Before training it writes:\n{texts[0]}\nAfter it:\n{texts[1]}")
