"""No communication across the batch: rows are apart, in values and in gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from quoth.ladder import heads
from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Table


def explain(lesson: Lesson) -> Iterator[Part]:
    """Change one row, the text's, and see which logits move; and which rows its loss sends gradients to."""
    T = len(lesson.ids)
    model = lesson.untrained(replace(heads.RUNG, config={**heads.RUNG.config, "context": T})).double()
    (batch,) = lesson.corpus.batches(4, T, seed=lesson.seed)[0]
    batch.x_BT[2] = lesson.ids
    changed = batch.x_BT.clone()
    changed[2] = (changed[2] + 1) % lesson.tokenizer.vocabulary
    with torch.no_grad():
        moved = (model(changed) - model(batch.x_BT)).abs().amax((1, 2)).tolist()
    x_BTC = model.embed(batch.x_BT).detach().requires_grad_()
    model.head(model.blocks[0](model.positions.add(x_BTC, slice(0, x_BTC.shape[1]))))[2].sum().backward()
    assert x_BTC.grad is not None
    felt = x_BTC.grad.abs().amax((1, 2)).tolist()
    said = [lesson.read(row.tolist()) for row in batch.x_BT]
    rows = [(b, repr(said[b]), f"{m:.3g}", f"{g:.3g}") for b, (m, g) in enumerate(zip(moved, felt, strict=True))]
    names = ["row", "its text", "logits move, row 2 changed", "gradient felt, of row 2's logits"]
    yield Table("Four rows of a batch", names, rows)
    yield Say(
        f"Zero is exactly zero. A batch is only for the hardware's sake: four graphs of {T} nodes side by side, with "
        "no edge between them. So a request to a server cannot hear its neighbours, and a batch may be cut in two."
    )
