"""Self-attention and cross-attention: where keys and values come from."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Show
from quoth.model.attention import attention_weights

SOURCE = "a source"


def explain(lesson: Lesson) -> Iterator[Part]:
    """The same attention, with queries of the text and keys and values of another one."""
    x_BHTK = lesson.vectors(16)[None, None]
    rng = torch.Generator().manual_seed(lesson.seed + 1)
    y_BHSK = torch.randn(1, 1, len(SOURCE), 16, generator=rng)
    names, source = lesson.names(lesson.ids), [repr(c) for c in SOURCE]
    to_itself = attention_weights(x_BHTK, x_BHTK)[0, 0]
    to_source = attention_weights(x_BHTK, y_BHSK, causal=False)[0, 0]
    yield Show("self-attention: queries, keys and values of one text, (T, T)", to_itself, names, names)
    yield Show("cross-attention: queries here, keys and values there, (T, S)", to_source, names, source)
    yield Say(
        "Attention asks nothing of where its keys and values come from. Of the tokens themselves: self-attention. Of "
        "other tokens, as those of a sentence to be translated: cross-attention, which needs no causal mask, since the "
        "source is known as a whole. `quoth explain translation` trains a model that uses it."
    )
