"""Exercises on the bigram and its loss."""

from itertools import pairwise
from math import log, log2

import torch
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise


def uniform_loss(vocabulary: int) -> float:
    """The loss, in nats, of a model that knows nothing of so many tokens."""
    return log(vocabulary)


def in_bits(vocabulary):
    """That is in bits; nats are measured with the natural logarithm."""
    return log2(vocabulary)


def probability(vocabulary):
    """That is the probability; the loss is minus its logarithm."""
    return 1 / vocabulary


def cross_entropy(logit_NV: Tensor, target_N: Tensor) -> Tensor:
    """The mean over N of −log softmax(logits) at the target."""
    return -logit_NV.log_softmax(-1)[torch.arange(len(target_N)), target_N].mean()


def summed(logit_NV, target_N, *, of=cross_entropy):
    """That is the sum over tokens; the mean is wanted."""
    return of(logit_NV, target_N) * len(target_N)


def raw_logits(logit_NV, target_N):
    """The logit itself is taken at the target; a softmax has to come first."""
    return -logit_NV[torch.arange(len(target_N)), target_N].mean()


def over_tokens(logit_NV, target_N):
    """The softmax runs over the tokens; it should run over the vocabulary."""
    return -logit_NV.log_softmax(0)[torch.arange(len(target_N)), target_N].mean()


def count_pairs(token_N: Tensor, vocabulary: int) -> Tensor:
    """A table (V, V): how often each token, the row, is followed by each, the column."""
    table_VV = torch.zeros(vocabulary, vocabulary)
    for first, second in pairwise(token_N):
        table_VV[first, second] += 1
    return table_VV


def transposed(token_N, vocabulary, *, of=count_pairs):
    """Rows and columns are exchanged: the first of a pair should be the row."""
    return of(token_N, vocabulary).T


def wrapped_around(token_N, vocabulary, *, of=count_pairs):
    """The last token is followed by the first; after the last nothing follows."""
    return of(torch.cat([token_N, token_N[:1]]), vocabulary)


EXERCISES = (
    Exercise(uniform_loss, (in_bits, probability), lambda rng: [(65,), (256,)]),
    Exercise(
        cross_entropy,
        (summed, raw_logits, over_tokens),
        lambda rng: [(torch.randn(6, 9, generator=rng), torch.randint(9, (6,), generator=rng)) for _ in range(2)],
    ),
    Exercise(
        count_pairs,
        (transposed, wrapped_around),
        lambda rng: [(torch.randint(5, (40,), generator=rng), 5), (torch.tensor([0, 1, 2, 1]), 3)],
    ),
)
