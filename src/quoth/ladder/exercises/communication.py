"""Exercises on attention as communication."""

import torch
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise


def edges(T: int, causal: bool) -> int:
    """How many edges the graph of T tokens has, a token's edge to itself counted; causal or not."""
    return T * (T + 1) // 2 if causal else T * T


def no_loops(T, causal):
    """A token hears itself too: T edges are missing."""
    return edges(T, causal) - T


def half_the_square(T, causal):
    """Half of T² counts only half of the diagonal."""
    return T * T // 2 if causal else T * T


def heard_most(weight_TS: Tensor) -> list[int]:
    """For each token, a row, the token that it hears most of."""
    return weight_TS.argmax(-1).tolist()


def by_columns(weight_TS):
    """That is for each column who listens to it most; rows are the listeners."""
    return weight_TS.argmax(0).tolist()


def least(weight_TS, *, of=heard_most):
    """That is the token it hears least of."""
    return of(-weight_TS)


EXERCISES = (
    Exercise(edges, (no_loops, half_the_square), lambda rng: [(8, True), (8, False), (3, True)]),
    Exercise(
        heard_most,
        (by_columns, least),
        lambda rng: [(torch.randn(6, 6, generator=rng).softmax(-1),), (torch.randn(4, 4, generator=rng).softmax(-1),)],
    ),
)
