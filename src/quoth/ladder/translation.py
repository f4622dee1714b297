"""Encoder and decoder together: a translation learned from pairs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import cast

import torch

from quoth.generate.engine import Engine
from quoth.generate.request import Request
from quoth.generate.sampling import Sampling
from quoth.ladder.alignment import looks
from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Show, Table
from quoth.ladder.pig_latin import BEGIN, SOURCE, TARGET, VOCABULARY, Pairs, ids, pair_batch, pig_latin, read, words
from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.model.seq2seq import Seq2Seq
from quoth.text.tokenizer import Bytes
from quoth.train.loop import Step, fit
from quoth.train.objectives import next_token
from quoth.train.optimizers import make_optimizer

STEPS, MOST_WORDS = 800, 16


def translator(seed: int) -> Seq2Seq:
    """Two layers that read and two that write."""
    torch.manual_seed(seed)
    return Seq2Seq(family("modern", vocabulary=VOCABULARY, width=64, layers=2, heads=2, context=TARGET), SOURCE)


def train(model: Seq2Seq, learned: list[str], seed: int, steps: int = STEPS) -> Iterator[Step]:
    """By the one loop; only the source of batches is new."""
    return fit(model, make_optimizer(model), Pairs(learned, 128, seed), next_token, steps=steps)


def translate(model: Seq2Seq, chosen: list[str]) -> list[str]:
    """The likeliest letters, one after another, by the one engine; all words at once."""
    with torch.no_grad():
        decoder = model.eval().given(torch.stack([ids(word, SOURCE) for word in chosen]))
    likeliest = [Request(prompt=[BEGIN], tokens=TARGET, sampling=Sampling(temperature=0))] * len(chosen)
    made = Engine(cast(GPT, decoder), Bytes(), slots=len(chosen)).generate(likeliest)
    return [read(torch.tensor(one.answer)) for one in made]


def exact(model: Seq2Seq, chosen: list[str]) -> float:
    """The share of words whose whole translation is right."""
    return sum(m == pig_latin(w) for m, w in zip(translate(model, chosen), chosen, strict=True)) / len(chosen)


def explain(lesson: Lesson) -> Iterator[Part]:
    """Train, judge on words never seen and on the text's, and show the alignment."""
    learned, held = words(lesson.read(lesson.train.tolist()), lesson.seed)
    model = translator(lesson.seed)
    training = train(model, learned, lesson.seed)
    lesson.learn(model, "the translator", training, STEPS, pair_batch(learned[:1]).x_BT)
    every = dict.fromkeys(re.findall("[a-z]+", lesson.text.lower()))
    own = [w for w in every if len(w) <= SOURCE][:MOST_WORDS]
    if len(own) < max(1, len(every)):
        yield Say(
            f"This topic translates {len(own)} of the text's {len(every):,} different words of the letters a to z: the "
            f"first {MOST_WORDS} that have at most {SOURCE} letters."
        )
    groups = {f"Words that were held out, of {len(learned):,} learned": held[:8], "Words of the text": own}
    for name, chosen in ((name, chosen) for name, chosen in groups.items() if chosen):
        rows = [(w, pig_latin(w), made) for w, made in zip(chosen, translate(model, chosen), strict=True)]
        yield Table(name, ["word", "Pig Latin", "translated"], rows)
    lesson.progress(f"translating {len(held):,} words", 0, 1)
    yield Say(f"All {len(held):,} held out: {exact(model, held):.1%} right to the last letter.")
    word = max(own or held[:8], key=len)
    yield Show(f"where it looks in {word!r} while it writes", looks(model, word), [*pig_latin(word)], [*word])
