"""Dropout: leave out channels at random in training, so that none is relied on; for models that learn by heart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from quoth.ladder import norm
from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Show, Table
from quoth.ladder.rung import BATCH
from quoth.model.config import family
from quoth.model.layers import Dropout

# Little text and a large model, so that there is something to learn by heart within seconds.
CHARACTERS, STEPS, RATES = 20_000, 1200, (0.0, 0.2, 0.4)
SHAPE: dict[str, Any] = {
    "width": 96,
    "layers": 3,
    "heads": 4,
    "context": 16,
    "norm": "layernorm",
    "dropout_shape": "channel",
}


def explain(lesson: Lesson) -> Iterator[Part]:
    """What is left out in two passes; and the gap between training and validation with more and more of it."""
    c = family("lecture", vocabulary=65, width=6, heads=1, dropout=0.5)
    torch.manual_seed(lesson.seed)
    drop, x_TC, names = Dropout(c), lesson.vectors(6), lesson.names(lesson.ids)
    yield Show("the text's tokens, six channels each", x_TC, names)
    for number in ("one pass", "the next"):
        yield Show(f"in {number}: half dropped, and the rest doubled", drop(x_TC), names)
    yield Show("after training nothing is dropped", drop.eval()(x_TC), names)
    few = replace(lesson.corpus, train=np.asarray(lesson.corpus.train[:CHARACTERS]))
    short = replace(lesson, corpus=few)
    rows = []
    for rate in RATES:
        name, config = f"with {rate:.0%} dropped", {**SHAPE, "dropout": rate}
        rung = replace(norm.RUNG, name=name, config=config, learning_rate=2e-3)
        model = short.trained(rung, STEPS)
        train, validation = short.loss(model, "train"), short.loss(model)
        rows.append((f"{rate:.0%}", f"{train:.3f}", f"{validation:.3f}", f"{validation - train:.3f}"))
    epochs = STEPS * BATCH * SHAPE["context"] / len(few.train)
    columns = ["dropped", "train", "validation", "gap"]
    yield Table(f"{len(few.train):,} tokens read {epochs:.0f} times over", columns, rows)
    yield Say(
        "Without dropout the model knows its text by heart, and pays for it on text it has not seen. Dropout closes "
        "the gap from the training side; whether validation gains depends on how far it had come apart."
    )
