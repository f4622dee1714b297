"""Exercises on averaging the past."""

import torch
from torch import Tensor

from quoth.ladder.averaging import mean_softmax
from quoth.ladder.checker.exercise import Exercise


def mean_before(x_BTC: Tensor) -> Tensor:
    """For each time the mean of the vectors strictly before it; zeros for the first. (B, T, C) → (B, T, C)."""
    y_BTC = torch.zeros_like(x_BTC)
    for t in range(1, x_BTC.shape[1]):
        y_BTC[:, t] = x_BTC[:, :t].mean(1)
    return y_BTC


def with_itself(x_BTC):
    """Each time is in its own mean; only what is before it should be."""
    return mean_softmax(x_BTC)


def summed_up(x_BTC):
    """That is the sum of what is before; the mean is wanted."""
    return x_BTC.cumsum(1) - x_BTC


def first_not_zero(x_BTC, *, of=mean_before):
    """Nothing stands before the first time, so its mean should be zeros."""
    y_BTC = of(x_BTC).clone()
    y_BTC[:, 0] = x_BTC[:, 0]
    return y_BTC


def fading_mean(x_BTC: Tensor, fade: float) -> Tensor:
    """A mean of the past by softmax: a vector s steps back has the score −s · fade. (B, T, C) → (B, T, C)."""
    T = x_BTC.shape[1]
    back_TT = torch.arange(T)[:, None] - torch.arange(T)
    score_TT = (-fade * back_TT).masked_fill(back_TT < 0, -torch.inf)
    return score_TT.softmax(-1) @ x_BTC


def growing(x_BTC, fade, *, of=fading_mean):
    """What is far away weighs most; it should weigh least."""
    return of(x_BTC, -fade)


def from_the_future(x_BTC, fade):
    """The future is averaged too; only the past should be."""
    T = x_BTC.shape[1]
    back_TT = torch.arange(T)[:, None] - torch.arange(T)
    return (-fade * back_TT).softmax(-1) @ x_BTC


def not_normal(x_BTC, fade):
    """The weights of a row do not sum to 1: a softmax divides by their sum."""
    T = x_BTC.shape[1]
    back_TT = torch.arange(T)[:, None] - torch.arange(T)
    return (-fade * back_TT).exp().tril() @ x_BTC


def some(rng: torch.Generator) -> list[Tensor]:
    return [torch.randn(2, 5, 3, generator=rng), torch.randn(1, 8, 2, generator=rng)]


EXERCISES = (
    Exercise(mean_before, (with_itself, summed_up, first_not_zero), lambda rng: [(x,) for x in some(rng)]),
    Exercise(fading_mean, (growing, from_the_future, not_normal), lambda rng: [(x, 0.5) for x in some(rng)]),
)
