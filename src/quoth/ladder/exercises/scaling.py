"""Exercises on the scale of scores."""

from math import sqrt

import torch
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise


def scale(head_size: int) -> float:
    """What scores are multiplied by, so that their variance is 1 where queries and keys are N(0, 1) numbers."""
    return 1 / sqrt(head_size)


def inverse(head_size):
    """That makes the variance 1 / K: the factor counts squared in it."""
    return 1 / head_size


def root(head_size):
    """With that factor the variance is K²; scores should be divided by the root."""
    return head_size**0.5


def entropy(score_NS: Tensor) -> Tensor:
    """The entropy of the softmax of each row, in nats: (N,)."""
    log_p_NS = score_NS.log_softmax(-1)
    return -(log_p_NS.exp() * log_p_NS).sum(-1)


def negative(score_NS, *, of=entropy):
    """The sign is wrong: an entropy is not negative."""
    return -of(score_NS)


def bits(score_NS, *, of=entropy):
    """That is in bits; nats are wanted."""
    return of(score_NS) / torch.log(torch.tensor(2.0))


def not_weighted(score_NS):
    """All surprises count alike; each −log p should be weighed by p."""
    return -score_NS.log_softmax(-1).mean(-1)


EXERCISES = (
    Exercise(scale, (inverse, root), lambda rng: [(16,), (64,)]),
    Exercise(entropy, (negative, bits, not_weighted), lambda rng: [(2 * torch.randn(3, 5, generator=rng),)]),
)
