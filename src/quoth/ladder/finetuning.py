"""Finetuning: a model that goes on from any text learns to answer (Ouyang et al. 2022, arXiv:2203.02155)."""

from __future__ import annotations

from collections.abc import Iterator

from quoth.ladder.last_character import ASKED, conversation, judged, models
from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Table
from quoth.text.chat import Template
from quoth.text.special import for_chat

HOW = ("pretrained", "finetuned", "finetuned, and held to what it predicted")


def explain(lesson: Lesson) -> Iterator[Part]:
    """The text as a request, in tokens and weights; and answers before and after finetuning."""
    tokenizer = for_chat(lesson.tokenizer)
    template = Template(str(tokenizer.template))
    ids, weights = template.ids_and_weights(conversation(lesson.read(lesson.ids.tolist())), tokenizer)
    special = {i: name for name, i in tokenizer.special.items()}
    rows = [(t, special.get(i) or repr(lesson.read([i])), w) for t, (i, w) in enumerate(zip(ids, weights, strict=True))]
    yield Table("A conversation as tokens", ["place", "token", "weight"], rows)
    yield Say(
        "A chat template writes who speaks, in special tokens, which no text can hold. The weights say what is "
        "learned: the answer, and the token that ends it, without which no answer would end. The request is only read."
    )
    trained = zip(HOW, models(lesson, tokenizer, template), strict=True)
    table = [(how, *judged(lesson, model, tokenizer, template)) for how, model in trained]
    yield Table(f"{ASKED} held-out requests", ["", "answers that end", "right", "loss on plain text"], table)
    yield Say(
        "The pretrained model goes on from a request as from any text. Finetuning teaches it to answer, and makes it "
        "forget the text that it came from, unless a share of each step's rows is that text, and the KL divergence "
        "holds the model there to what it predicted before: `quoth tune sft --replay`."
    )
