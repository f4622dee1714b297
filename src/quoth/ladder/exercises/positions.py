"""Exercises on positions."""

from math import cos, sin

import torch
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise


def add_positions(x_BTC: Tensor, table_TC: Tensor) -> Tensor:
    """Add to each token the vector of its place; x may be shorter than the table."""
    return x_BTC + table_TC[: x_BTC.shape[1]]


def from_the_end(x_BTC, table_TC, *, of=add_positions):
    """The table's last vectors are added; the window begins at place 0."""
    return of(x_BTC, table_TC[-x_BTC.shape[1] :])


def same_place(x_BTC, table_TC, *, of=add_positions):
    """Every token gets the vector of place 0."""
    return of(x_BTC, table_TC[:1].expand_as(table_TC))


def multiplied(x_BTC, table_TC):
    """Vectors are multiplied; they should be added."""
    return x_BTC * table_TC[: x_BTC.shape[1]]


def rotate(x_TK: Tensor, theta: float) -> Tensor:
    """Turn the two channels at place t by the angle t · theta, counterclockwise. (T, 2) → (T, 2)."""
    turns = [(cos(t * theta), sin(t * theta)) for t in range(len(x_TK))]
    return torch.stack([x_TK.new_tensor([[c, -s], [s, c]]) @ x for x, (c, s) in zip(x_TK, turns, strict=True)])


def clockwise(x_TK, theta, *, of=rotate):
    """The channels are turned clockwise; the angle's sign is wrong."""
    return of(x_TK, -theta)


def one_ahead(x_TK, theta, *, of=rotate):
    """Place 0 is turned already; it should stay as it is."""
    return of(torch.cat([x_TK[:1], x_TK]), theta)[1:]


def all_alike(x_TK, theta):
    """Every place is turned by the same angle; it should grow with t."""
    return torch.cat([rotate(torch.cat([row[None], row[None]]), theta)[1:] for row in x_TK])


def inputs(rng: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(2, T, 4, generator=rng), torch.randn(8, 4, generator=rng)) for T in (5, 3)]


EXERCISES = (
    Exercise(add_positions, (from_the_end, same_place, multiplied), inputs),
    Exercise(rotate, (clockwise, one_ahead, all_alike), lambda rng: [(torch.randn(5, 2, generator=rng), 0.3)]),
)
