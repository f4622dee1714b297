"""An embedding apart from the vocabulary: tokens become vectors, and vectors become logits again."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from quoth.ladder import bigram
from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Show, Table
from quoth.ladder.rung import Rung
from quoth.model.gpt import GPT

RUNG = Rung(
    "embedding",
    "Tokens become vectors of 32 channels, which a linear layer turns into logits; still a bigram.",
    config={"layers": 0, "positions": "none"},
)


def as_table(model: GPT) -> Tensor:
    """The bigram table (V, V) that a GPT without layers, positions and norm amounts to: embed @ head.T + bias."""
    return model.embed.weight @ model.head.weight.T + (0 if model.head.bias is None else model.head.bias)


def placed(model: GPT, token_T: Tensor) -> Tensor:
    """What the first block is given for a text: each token's vector with its place's added, (1, T, C)."""
    return model.positions.add(model.embed(token_T[None]), slice(0, len(token_T)))


def explain(lesson: Lesson) -> Iterator[Part]:
    """The sizes of the two tables, and that a model without layers is a bigram."""
    model, V = lesson.trained(RUNG, steps=2000), lesson.tokenizer.vocabulary
    C = model.config.width
    yield Say(
        f"The bigram's table has V × V = {V * V:,} numbers; an embedding of C = {C} channels and a head back to V "
        f"logits have 2 V C + V = {2 * V * C + V:,}. For GPT-2's 50,257 tokens: 2.5 billion, 3.3 million."
    )
    ids = lesson.ids
    with torch.no_grad():
        yield Show("embedding of the text, (T, C), four channels", model.embed(ids)[:, :4], lesson.names(ids))
        apart = (model(ids[None])[0] - as_table(model)[ids]).abs().max().item()
    yield Say(
        f"Their product with the bias is a V × V table again, and its rows are the model's logits, to {apart:.1e}. "
        "Without layers no token hears of another, so it is a bigram still."
    )
    table = lesson.trained(bigram.RUNG, steps=1500)
    losses = [("V × V table", lesson.loss(table)), (f"through {C} channels", lesson.loss(model))]
    yield Table("Loss on the validation split", ["model", "nats per token"], losses)
