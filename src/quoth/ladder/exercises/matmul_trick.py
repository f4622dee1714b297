"""Exercises on weighted sums as products."""

import torch
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise


def mean_matrix(T: int) -> Tensor:
    """The (T, T) matrix whose product with x (T, C) is the mean of each row and all rows above it."""
    ones_TT = torch.tril(torch.ones(T, T))
    return ones_TT / ones_TT.sum(-1, keepdim=True)


def of_the_future(T, *, of=mean_matrix):
    """Each row averages itself and what is below it; it should be what is above."""
    return of(T).flip(0, 1)


def sums(T):
    """Rows do not sum to 1, so the product is a sum and not a mean."""
    return torch.tril(torch.ones(T, T))


def by_columns(T):
    """Columns sum to 1; rows should."""
    ones_TT = torch.tril(torch.ones(T, T))
    return ones_TT / ones_TT.sum(0, keepdim=True)


def last_three(T: int) -> Tensor:
    """The (T, T) matrix that averages each row with the two above it, or with as many as there are."""
    ones_TT = torch.tril(torch.ones(T, T)) - torch.tril(torch.ones(T, T), -3)
    return ones_TT / ones_TT.sum(-1, keepdim=True)


def always_thirds(T):
    """The first two rows have fewer than three to average, and should still sum to 1."""
    return (torch.tril(torch.ones(T, T)) - torch.tril(torch.ones(T, T), -3)) / 3


def four(T):
    """Four rows are averaged; it should be three, the row and two above it."""
    ones_TT = torch.tril(torch.ones(T, T)) - torch.tril(torch.ones(T, T), -4)
    return ones_TT / ones_TT.sum(-1, keepdim=True)


EXERCISES = (
    Exercise(mean_matrix, (of_the_future, sums, by_columns), lambda rng: [(4,), (6,)]),
    Exercise(last_three, (always_thirds, four), lambda rng: [(5,), (8,)]),
)
