"""Residual connections: a block adds to what passes through, so that gradients reach the first layer whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from torch import Tensor, nn

from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Curves, Part, Say, Table
from quoth.ladder.rung import Rung
from quoth.model.config import GPTConfig
from quoth.model.gpt import Block
from quoth.text.batches import Batch
from quoth.train.objectives import next_token

DEEP = 12


class Times(nn.Module):
    """x times a number that is not learned."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def block(c: GPTConfig, scale: float | None = None, kind: type[Block] = Block) -> Block:
    """The shipped block; where scores have another scale than 1 / √K, its queries are multiplied beforehand."""
    made = kind(c)
    if scale is not None:
        made.attention.query_norm = Times(scale * c.head_size**0.5)
    return made


class Straight(Block):
    """The block without its residual connections."""

    def forward(self, x_BTC: Tensor, *unused: object) -> Tensor:
        return self.mlp(self.mlp_norm(self.attention(self.attention_norm(x_BTC))))  # type: ignore[no-any-return]


RUNG = Rung(
    "residual",
    "Three blocks, each adding to what passes through; projections, and an MLP of four times the width.",
    lecture_loss=2.08,
    config={"heads": 4, "layers": 3},
    block=block,
)
STRAIGHT = replace(RUNG, name="straight", lecture_loss=None, block=partial(block, kind=Straight))


def gradient_norms(rung: Rung, lesson: Lesson, layers: int) -> list[float]:
    """The norm of each layer's first gradient, on the text's windows, from the first layer to the last."""
    model = lesson.untrained(replace(rung, config={**rung.config, "layers": layers}))
    window_BT = lesson.ids.unfold(0, min(len(lesson.ids), model.config.context + 1), 1)
    batch = Batch(window_BT[:, :-1], window_BT[:, 1:])
    (next_token(model, batch) / batch.count).backward()  # type: ignore[no-untyped-call]
    grads = ([p.grad for p in layer.parameters() if p.grad is not None] for layer in model.blocks)
    return [float(nn.utils.get_total_norm(layer)) for layer in grads]


def explain(lesson: Lesson) -> Iterator[Part]:
    """The gradient's norm by depth, with and without; and what training makes of both."""
    with_, without = (gradient_norms(rung, lesson, DEEP) for rung in (RUNG, STRAIGHT))
    yield Curves(
        f"Gradient of each of {DEEP} layers before training, on the text", "layer", "norm", list(range(1, DEEP + 1)),
        {"with residuals": with_, "without": without}, log=True,
    )  # fmt: skip
    yield Say(
        f"Without residual connections the first layer gets {without[0] / without[-1]:.1e} of the last one's gradient; "
        f"with them {with_[0] / with_[-1]:.2f}. Addition hands a gradient on unchanged."
    )
    losses = [(rung.name, lesson.loss(lesson.trained(rung, steps=1500))) for rung in (STRAIGHT, RUNG)]
    yield Table("Loss of three blocks after 1,500 steps, validation", ["blocks", "nats per token"], losses)
