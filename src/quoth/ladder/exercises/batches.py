"""Exercises on batches."""

import torch
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise


def examples(chunk: list[int]) -> list[tuple[list[int], int]]:
    """For T + 1 tokens the T pairs (tokens so far, the next one), the shortest first."""
    return [(chunk[:t], chunk[t]) for t in range(1, len(chunk))]


def not_shifted(chunk):
    """The target is the last token of the input; it should be the one after it."""
    return [(chunk[:t], chunk[t - 1]) for t in range(1, len(chunk))]


def one_missing(chunk, *, of=examples):
    """The longest input is missing."""
    return of(chunk)[:-1]


def only_the_last(chunk):
    """An input is its last token only; it should be all tokens so far."""
    return [([chunk[t - 1]], chunk[t]) for t in range(1, len(chunk))]


def get_batch(token_N: Tensor, starts: list[int], context: int) -> tuple[Tensor, Tensor]:
    """x and y, each (B, T): the windows of `context` tokens at the starts, and the same one token later."""
    x_BT = torch.stack([token_N[s : s + context] for s in starts])
    return x_BT, torch.stack([token_N[s + 1 : s + 1 + context] for s in starts])


def same_twice(token_N, starts, context, *, of=get_batch):
    """y is x; it should be one token later."""
    x_BT, _ = of(token_N, starts, context)
    return x_BT, x_BT


def backwards(token_N, starts, context, *, of=get_batch):
    """x and y are exchanged: y should be later than x."""
    x_BT, y_BT = of(token_N, starts, context)
    return y_BT, x_BT


def time_first(token_N, starts, context, *, of=get_batch):
    """The axes are exchanged: rows should be windows, (B, T)."""
    x_BT, y_BT = of(token_N, starts, context)
    return x_BT.T, y_BT.T


EXERCISES = (
    Exercise(
        examples,
        (not_shifted, one_missing, only_the_last),
        lambda rng: [([18, 47, 56, 57, 58],), ([3, 1, 4, 1, 5, 9, 2, 6, 5],)],
    ),
    Exercise(
        get_batch,
        (same_twice, backwards, time_first),
        lambda rng: [(torch.randint(65, (50,), generator=rng), [3, 0, 20], 8), (torch.arange(30), [5], 4)],
    ),
)
