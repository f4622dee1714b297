"""Positions: attention has no notion of place, so the place is added to the token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from quoth.ladder import heads
from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Show, Table
from quoth.model.layers import LearnedPositions


def explain(lesson: Lesson) -> Iterator[Part]:
    """The loss with and without, and how alike the vectors of near places have become."""
    with_ = lesson.holding(heads.RUNG)
    without = replace(with_, name=f"{with_.name} without positions", config={**with_.config, "positions": "none"})
    models = {name: lesson.trained(rung, steps=2500) for name, rung in (("without", without), ("with", with_))}
    rows = [(name, lesson.loss(model)) for name, model in models.items()]
    yield Table("Four heads, validation loss", ["positions", "nats per token"], rows)
    ids = lesson.ids
    turned = torch.cat([ids[:-1].roll(1), ids[-1:]])
    with torch.no_grad():
        apart = {
            name: (model(ids[None])[0, -1] - model(turned[None])[0, -1]).abs().max().item()
            for name, model in models.items()
        }
    said = f"{lesson.read(ids.tolist())!r} and {lesson.read(turned.tolist())!r}"
    yield Table(f"Largest difference of the next logits after {said}", ["positions", "logits"], list(apart.items()))
    positions = models["with"].positions
    assert isinstance(positions, LearnedPositions)
    with torch.no_grad():
        table_TC = positions.table.weight
        unit_TC = table_TC / table_TC.norm(dim=-1, keepdim=True)
        places = [f"t = {t}" for t in range(len(table_TC))]
        yield Show("likeness (cosine) of the trained vectors of two places", unit_TC @ unit_TC.T, places, places)
    yield Say(
        "Each place of the window has a vector, added to that of the token there, so that a query can ask for the "
        "token before as well as for a vowel. The lecture's and GPT-2's are learned; the default here turns queries "
        "and keys by an angle for each place instead (RoPE), so that only distances count."
    )
