"""A small task for conversations: the user says something, and the assistant answers with its last character."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray

from quoth.generate.engine import Engine
from quoth.generate.request import Request
from quoth.generate.sampling import Sampling
from quoth.ladder.lesson import Lesson
from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.text.chat import Template
from quoth.text.packing import Example, PackedRows
from quoth.text.tokenizer import Tokenizer
from quoth.train.finetuning import finetuning
from quoth.train.loop import fit
from quoth.train.objectives import next_token
from quoth.train.optimizers import make_optimizer

CONTEXT, STEPS, FINETUNING, EXAMPLES, ASKED = 32, 500, 200, 1500, 50


def conversation(request: str) -> list[dict[str, str]]:
    """A request and the answer that is wanted: its last character, and nothing more."""
    return [{"role": "user", "content": request}, {"role": "assistant", "content": request[-1]}]


def requests(lesson: Lesson, split: NDArray[np.integer], number: int) -> list[str]:
    """Some short stretches of a split."""
    rng = np.random.default_rng(lesson.seed)
    places = zip(rng.integers(len(split) - 20, size=number), rng.integers(3, 20, size=number), strict=True)
    return [lesson.read(split[begin : begin + length].tolist()) for begin, length in places]


def models(lesson: Lesson, tokenizer: Tokenizer, template: Template) -> Iterator[GPT]:
    """A model that has learned to go on from the corpus; and two copies, finetuned without and with plain text."""
    torch.manual_seed(lesson.seed)
    base = GPT(family("modern", vocabulary=tokenizer.vocabulary, width=48, layers=2, context=CONTEXT))
    windows = lesson.corpus.batches(16, CONTEXT, seed=lesson.seed)
    training = fit(base, make_optimizer(base), windows, next_token, steps=STEPS)
    yield (base := lesson.learn(base, "a model that goes on", training, STEPS, lesson.train[None, :8]))
    asked = requests(lesson, lesson.corpus.train, EXAMPLES)
    examples = [Example(*template.ids_and_weights(conversation(request), tokenizer)) for request in asked]
    for replay in (None, lesson.corpus.batches(4, CONTEXT, seed=lesson.seed)):
        rows = PackedRows(examples, batch=16, context=CONTEXT, seed=lesson.seed, replay=replay)
        objective = finetuning(base, weight=2.0) if replay else next_token
        training = fit(tuned := deepcopy(base), make_optimizer(tuned), rows, objective, steps=FINETUNING)
        decides = lesson.train[None, :8], bool(replay)
        yield lesson.learn(tuned, "it to answer", training, FINETUNING, *decides)


def judged(lesson: Lesson, model: GPT, tokenizer: Tokenizer, template: Template) -> tuple[str, str, float]:
    """The share of held-out requests whose answer ends, and is right; and the loss on plain text."""
    asked, ends = requests(lesson, lesson.corpus.validation, ASKED), frozenset(tokenizer.ends)
    prompts = [template.ids(conversation(one)[:1], tokenizer) for one in asked]
    how = Sampling(temperature=0)
    made = Engine(model, tokenizer).generate(
        [Request(prompt=p, tokens=4, sampling=how, stop_ids=ends) for p in prompts]
    )
    ended = [g.end_token is not None for g in made]
    right = [end and g.text == one[-1] for end, g, one in zip(ended, made, asked, strict=True)]
    return f"{sum(ended) / ASKED:.2f}", f"{sum(right) / ASKED:.2f}", lesson.loss(model)
