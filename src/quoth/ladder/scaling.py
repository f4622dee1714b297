"""Why scores are divided by √K: so that at the start the softmax is soft, whatever the size of a head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import log
from typing import cast

import torch
from torch import Tensor

from quoth.ladder.attention import RUNG, Head
from quoth.ladder.embedding import placed
from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Curves, Part, Say, Show, Table

SIZES = (4, 8, 16, 32, 64, 128, 256)
S = 8


def scores(K: int, scale: float, seed: int) -> Tensor:
    """Scores of 1,000 queries against S keys, all of N(0, 1) numbers: (1000, S)."""
    rng = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(1000, n, K, generator=rng) for n in (1, S))
    return (q @ k.mT)[:, 0] * scale


def entropy(score_NS: Tensor) -> float:
    """The mean entropy of the softmax, in nats: ln S is even, 0 looks at one key alone."""
    log_p = score_NS.log_softmax(-1)
    return float(-(log_p.exp() * log_p).sum(-1).mean())


def explain(lesson: Lesson) -> Iterator[Part]:
    """Variance of scores and entropy of the softmax by head size; and what it does to training."""
    score_S = torch.tensor([0.1, -0.2, 0.3, -0.2, 0.5])
    yield Show("softmax of 0.1, −0.2, 0.3, −0.2, 0.5", score_S.softmax(-1)[None])
    yield Show("softmax of the same times 8: one takes most", (8 * score_S).softmax(-1)[None])
    made = {(K, scaled): scores(K, K**-0.5 if scaled else 1.0, lesson.seed) for K in SIZES for scaled in (False, True)}
    rows: list[tuple[int | str, ...]] = []
    for K in SIZES:
        numbers = [v for s in (False, True) for v in (float(made[K, s].var()), entropy(made[K, s]))]
        rows.append((K, *(f"{v:.2f}" for v in numbers)))
    names = ["K", "variance of q·k", "entropy", "variance of q·k / √K", "entropy"]
    yield Table(f"Queries and {S} keys of N(0, 1) numbers; ln {S} = {log(S):.2f}", names, rows)
    lines = {("divided by √K" if s else "as it is"): [entropy(made[K, s]) for K in SIZES] for s in (False, True)}
    yield Curves("Entropy of the softmax at the start", "head size K", "nats", list(SIZES), lines)
    yield Say(
        "A product of two vectors of K such numbers has variance K. Undivided, a large head starts by listening to one "
        "token, whichever happened to fit, and a softmax that is sure of itself passes almost no gradient."
    )
    wide = lesson.holding(replace(RUNG, config={"width": 128}))
    rungs = [
        (name, replace(wide, name=f"one-head, {name}", block=lambda c, _, scale=scale: Head(c, scale=scale)))
        for name, scale in (("scores as they are", 1.0), ("divided by √128", None))
    ]
    models = {name: lesson.trained(rung, steps=1000) for name, rung in rungs}
    losses = [(name, lesson.loss(model)) for name, model in models.items()]
    yield Table("A head of 128 channels after 1,000 steps, validation", ["", "nats per token"], losses)
    ids = lesson.ids
    weights = torch.stack([cast(Head, m.blocks[0]).weights(placed(m, ids))[0, -1] for m in models.values()])
    yield Show("whom the text's last token averages then", weights, list(models), lesson.names(ids))
