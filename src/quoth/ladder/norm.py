"""Layer norm and its relation to batch norm: the same formula along another axis."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from quoth.ladder import residual
from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Show, Table
from quoth.ladder.rung import Rung
from quoth.model.layers import LayerNorm

RUNG = Rung(
    "norm",
    "Layer norm before each part of a block, and before the head.",
    lecture_loss=2.06,
    config={"heads": 4, "layers": 3, "norm": "layernorm"},
    block=residual.block,
)


def layer_norm(x_BTC: Tensor, eps: float = 1e-5) -> Tensor:
    """Each token's channels to mean 0 and variance 1."""
    mean = x_BTC.mean(-1, keepdim=True)
    return (x_BTC - mean) / (x_BTC.var(-1, keepdim=True, unbiased=False) + eps).sqrt()


def batch_norm(x_BTC: Tensor, eps: float = 1e-5) -> Tensor:
    """Each channel to mean 0 and variance 1, over all tokens of the batch."""
    mean = x_BTC.mean((0, 1), keepdim=True)
    return (x_BTC - mean) / (x_BTC.var((0, 1), keepdim=True, unbiased=False) + eps).sqrt()


def explain(lesson: Lesson) -> Iterator[Part]:
    """What each normalises, that ours equal torch's, and what a batch norm would let a token know."""
    T = len(lesson.ids)
    x_BTC = 3 * lesson.vectors(16).expand(4, T, 16) + torch.randn(4, 1, 16) + 1
    names = lesson.names(lesson.ids)
    yield Show("x, four of 16 channels", x_BTC[0, :, :4], names)
    yield Show("layer norm of it", layer_norm(x_BTC)[0, :, :4], names)
    ours, theirs = layer_norm(x_BTC), LayerNorm(16, 1e-5)(x_BTC)
    batch, torchs = batch_norm(x_BTC), nn.BatchNorm1d(16)(x_BTC.transpose(1, 2)).transpose(1, 2)
    rows = []
    for name, y in (("x", x_BTC), ("layer norm", ours), ("batch norm", batch)):
        slices = (y[0, 0], y[..., 0])
        rows.append((name, *(f"{v:.2f}" for s in slices for v in (s.mean(), s.std(correction=0)))))
    columns = ["", "a token's mean", "its deviation", "a channel's mean", "its deviation"]
    yield Table(f"What is made 0 and 1: rows of a batch (4, {T}, 16), one token and one channel", columns, rows)
    apart = max((ours - theirs).abs().max().item(), (batch - torchs).abs().max().item())
    yield Say(f"Written out they equal torch's LayerNorm and BatchNorm1d to {apart:.1e}.")
    future, neighbour = x_BTC.clone(), x_BTC.clone()
    half = (T + 1) // 2
    future[0, half:] += 10
    neighbour[1:] += 10
    moved = [
        [f"{(f(y)[0, :half] - f(x_BTC)[0, :half]).abs().max().item():.3f}" for y in (future, neighbour)]
        for f in (layer_norm, batch_norm)
    ]
    changes = ["", "the future changes", "other rows change"]
    kinds = [("layer norm", *moved[0]), ("batch norm", *moved[1])]
    yield Table(f"How far the first half of row 0, {half} of {T} tokens, moves when", changes, kinds)
    yield Say(
        "Batch norm takes its mean over time and rows, so a token would learn of its future and of its neighbours in "
        "the batch: neither causal nor independent. Layer norm looks at one token alone, in training and after it."
    )
    losses = [(rung.name, lesson.loss(lesson.trained(rung, steps=1500))) for rung in (residual.RUNG, RUNG)]
    yield Table("Loss after 1,500 steps, validation", ["rung", "nats per token"], losses)
