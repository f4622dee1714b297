"""The topics, in the lecture's order; nothing is imported until one is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

from quoth.system.errors import InputError, suggestion

if TYPE_CHECKING:
    from quoth.ladder.lesson import Lesson
    from quoth.ladder.parts import Part

TOPICS = {
    "data": "the text itself, and what guessing by frequency costs",
    "tokens": "text as numbers and back, in four tokenizers, and the split",
    "batches": "the examples inside a chunk, and batches of chunks",
    "bigram": "the simplest model: a table of what follows what",
    "matmul-trick": "why a triangular matrix is an average of the past",
    "averaging": "the mean of the past, by a loop, a product and a softmax",
    "embedding": "vectors for tokens, and why it is a bigram still",
    "positions": "the same model with and without a notion of place",
    "attention": "queries, keys, values: the weights come from the data",
    "communication": "attention as a graph of who hears from whom",
    "sets": "attention acts on sets, until it is told places",
    "rows": "rows of a batch do not talk",
    "masks": "encoder or decoder: one argument",
    "cross": "self-attention and cross-attention: where keys come from",
    "scaling": "why scores are divided by the root of the head size",
    "heads": "several heads, as a list and as one more axis",
    "think": "an MLP after attention: talk, then think",
    "residual": "adding to what passes through, and gradients by depth",
    "norm": "layer norm and batch norm",
    "dropout": "leaving channels out, and the gap it closes",
    "encoder": "a model that reads both ways, and guesses hidden characters",
    "translation": "encoder and decoder together: a small translation learned",
    "nanogpt": "nanoGPT's names and these",
    "sizes": "GPT-3's table, counted; pretraining and finetuning",
    "finetuning": "from a model that goes on to one that answers",
    "reward-model": "scores learned from comparisons",
    "policy-gradient": "the best policy by reward and KL, and the way there",
    "advantages": "how much better than expected an answer was",
    "ppo": "the clipped objective: many passes, but not too far",
    "dpo": "the same best policy from comparisons alone",
}
# These are about models, or about a world of their own, and not about a text.
WITHOUT_TEXT = ("nanogpt", "sizes", "reward-model", "policy-gradient", "advantages", "ppo", "dpo")
# How many of a text's tokens a topic shows: as many as a terminal has room for, or what is said here; None is all.
MOST_SHOWN = 24
SHOWN = {"data": 96, "tokens": 96, "bigram": None, "matmul-trick": 3, "residual": 40, "dropout": 8, "encoder": 64}
SHOWN |= dict.fromkeys(("translation", *WITHOUT_TEXT))
# How many tokens a topic needs, where it says nothing of a single one.
NEEDED = {"batches": 2, "positions": 3, "sets": 2, "norm": 2, "residual": 2}
# The rungs, from the lowest; here too, so that completing them imports nothing.
RUNGS = ("bigram", "embedding", "one-head", "many-heads", "think", "residual", "norm", "scaled")


def topic(name: str) -> Callable[[Lesson], Iterator[Part]]:
    """The function that explains a topic, and first says what of the text it does not show.

    Raises:
        InputError: there is no such topic; or, of the function, the text is too short for it.
    """
    if name not in TOPICS:
        raise InputError(f"There is no topic {name!r}{suggestion(name, TOPICS)}.")
    explain: Callable[[Lesson], Iterator[Part]] = import_module(f"quoth.ladder.{name.replace('-', '_')}").explain

    def explain_shown(lesson: Lesson) -> Iterator[Part]:
        from quoth.ladder.parts import Say

        lesson, needed = replace(lesson, most=SHOWN.get(name, MOST_SHOWN)), NEEDED.get(name, 1)
        if (has := len(lesson.ids)) < needed:
            raise InputError(f"The topic {name} needs a text of at least {needed} tokens, but this one has {has}.")
        if lesson.left_out:
            yield Say(lesson.left_out)
        yield from explain(lesson)

    return explain_shown
