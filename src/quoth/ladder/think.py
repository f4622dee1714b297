"""Communication, then computation: an MLP, so that a token can think on what it has heard."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from quoth.ladder import heads
from quoth.ladder.embedding import placed
from quoth.ladder.heads import Heads
from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Show, Table
from quoth.ladder.rung import Rung
from quoth.model.config import GPTConfig


class Think(nn.Module):
    """Heads, then one linear layer and ReLU for each token by itself; the block of the rung think."""

    def __init__(self, c: GPTConfig, scale: float | None = None) -> None:
        super().__init__()
        self.heads = Heads(c, scale)
        self.mlp = nn.Sequential(nn.Linear(c.width, c.width), nn.ReLU())

    def forward(self, x_BTC: Tensor, *unused: object) -> Tensor:
        return self.mlp(self.heads(x_BTC))  # type: ignore[no-any-return]


RUNG = Rung(
    "think",
    "A linear layer and ReLU after the heads, for each token by itself: time to think on what was heard.",
    lecture_loss=2.24,
    config={"heads": 4},
    block=Think,
)


def explain(lesson: Lesson) -> Iterator[Part]:
    """Which part of a block lets tokens meet, seen by changing one; and what thinking is worth."""
    model = lesson.trained(lesson.holding(RUNG), steps=2000)
    block, ids = model.blocks[0], lesson.ids
    assert isinstance(block, Think)
    names = lesson.names(ids)
    x_BTC = placed(model, ids)
    changed, t = x_BTC.clone(), min(2, len(ids) - 1)
    changed[:, t] += 1
    with torch.no_grad():
        moved_PT = torch.stack([(f(changed) - f(x_BTC)).abs().amax(-1)[0] for f in (block.heads, block.mlp)])
    yield Show(f"How far each token's output moves when token {t} is changed", moved_PT, ["heads", "MLP"], names)
    yield Say(
        "Through the heads a change reaches every later token; through the MLP none but its own. Heads are where "
        "tokens talk, the MLP is where each thinks alone."
    )
    without = lesson.trained(lesson.holding(heads.RUNG), steps=2000)
    losses = [("heads alone", lesson.loss(without)), ("heads and MLP", lesson.loss(model))]
    yield Table("Loss after 2,000 steps, validation", ["block", "nats per token"], losses)
