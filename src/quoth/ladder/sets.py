"""Attention has no notion of space: it acts on a set, unless something tells the tokens where they stand."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Table
from quoth.model.attention import Attention
from quoth.model.config import family
from quoth.model.layers import LearnedPositions


def moved(attention: Attention, x_BTC: Tensor, order_T: Tensor, place_TC: Tensor | float = 0.0) -> float:
    """How far attention of permuted tokens is from the permuted attention; 0 is a set."""
    apart = attention(x_BTC[:, order_T] + place_TC) - attention(x_BTC + place_TC)[:, order_T]
    return float(apart.detach().abs().max())


def explain(lesson: Lesson) -> Iterator[Part]:
    """Permuting tokens permutes outputs, until a mask or positions break it."""
    T = len(lesson.ids)
    c = family("lecture", vocabulary=65, width=32, heads=4, context=T, dropout=0.0)
    torch.manual_seed(lesson.seed)
    everyone, causal = (Attention(c, causal=causal).double() for causal in (False, True))
    causal.load_state_dict(everyone.state_dict())
    x_BTC = lesson.vectors(32)[None].double()
    place_TC = LearnedPositions(c).double().table.weight
    order_T = torch.arange(T).flip(0)
    with torch.no_grad():
        rows = [
            ("no mask, no positions", moved(everyone, x_BTC, order_T)),
            ("no mask, positions", moved(everyone, x_BTC, order_T, place_TC)),
            ("causal mask, no positions", moved(causal, x_BTC, order_T)),
        ]
    turned = lesson.read(lesson.ids[order_T].tolist())
    yield Say(f"The tokens of {lesson.read(lesson.ids.tolist())!r} in another order: {turned!r}.")
    yield Table(
        "Attend and then permute, or permute and then attend?", ["attention", "largest difference"],
        [(name, f"{apart:.1e}") for name, apart in rows],
    )  # fmt: skip
    yield Say(
        "Without mask and positions each token gets the same answer wherever it stands: the sentence is a bag. A "
        "convolution knows space by its shape; attention has to be told. The mask tells a little, positions the rest."
    )
