"""Several heads side by side: as a list, as the lecture writes it, and as one more axis, as it runs fast."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from quoth.ladder.attention import Head
from quoth.ladder.averaging import milliseconds
from quoth.ladder.embedding import placed
from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Show, Table
from quoth.ladder.rung import Rung
from quoth.model.attention import Attention
from quoth.model.config import GPTConfig, family


class Heads(nn.Module):
    """H heads of C / H channels, joined. (B, T, C) → (B, T, C); the block of the rung many-heads."""

    def __init__(self, c: GPTConfig, scale: float | None = None) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Head(c, c.head_size, scale) for _ in range(c.heads))

    def forward(self, x_BTC: Tensor, *unused: object) -> Tensor:
        return torch.cat([head(x_BTC) for head in self.heads], dim=-1)


RUNG = Rung(
    "many-heads",
    "Four heads of 8 channels in place of one of 32: several conversations at once.",
    lecture_loss=2.28,
    config={"heads": 4},
    block=Heads,
)


def from_attention(attention: Attention, c: GPTConfig) -> Heads:
    """The list of heads with the weights of an `Attention`: rows hK to (h + 1)K of each matrix are head h's."""
    heads = Heads(c).to(attention.query.weight.dtype)
    with torch.no_grad():
        for name in ("query", "key", "value"):
            rows = getattr(attention, name).weight.split(c.head_size)
            for head, weight in zip(heads.heads, rows, strict=True):
                getattr(head, name).weight.copy_(weight)
    return heads


def explain(lesson: Lesson) -> Iterator[Part]:
    """What each head of a trained layer looks at; the list equals the fused form, and how much slower it is."""
    model = lesson.trained(lesson.holding(RUNG), steps=2000)
    names = lesson.names(lesson.ids)
    block = model.blocks[0]
    assert isinstance(block, Heads)
    with torch.no_grad():
        x_BTC = placed(model, lesson.ids)
        for number, head in enumerate(block.heads):
            assert isinstance(head, Head)
            yield Show(f"head {number}: whom each character averages", head.weights(x_BTC)[0], names, names)
    rows = []
    for heads in (2, 4, 8):
        c = family("lecture", vocabulary=65, layers=1, width=128, heads=heads, dropout=0.0)
        fused, x = Attention(c), torch.randn(8, 64, 128)
        fused.out = nn.Identity()  # type: ignore[assignment]
        listed = from_attention(fused.eval(), c)
        with torch.no_grad():
            apart = (listed(x) - fused(x)).abs().max().item()
            took = milliseconds(listed, x), milliseconds(fused, x)
        rows.append((f"{heads} heads of {c.head_size}", f"{apart:.0e}", *took, took[0] / took[1]))
    columns = ["", "largest difference", "as a list, ms", "as an axis, ms", "list over axis"]
    yield Table("A list of heads against heads as an axis of one product, 8 windows of 64", columns, rows)
    yield Say("The same numbers: heads do not talk to each other, so they can be rows of a batch. GPT-2 does it so.")
