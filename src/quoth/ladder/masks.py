"""Encoder and decoder: the same attention, with or without a mask over the future."""

from __future__ import annotations

from collections.abc import Iterator

from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Show
from quoth.model.attention import attention_weights


def explain(lesson: Lesson) -> Iterator[Part]:
    """Both kinds of weights side by side, on one text; only an argument differs."""
    names = lesson.names(lesson.ids)
    x_BHTK = lesson.vectors(16)[None, None]
    seen = {causal: attention_weights(x_BHTK, x_BHTK, causal=causal)[0, 0] for causal in (False, True)}
    yield Show("encoder, causal=False: every token hears every other", seen[False], names, names)
    yield Show("decoder, causal=True: no token hears a later one", seen[True], names, names)
    yield Say(
        "A decoder writes: token t may not see what it is to predict, so the upper triangle is 0. An encoder reads: a "
        "review whose mood is wanted is there as a whole, so all may talk to all. Nothing else differs, neither in the "
        "block nor in the shapes of its parameters."
    )
