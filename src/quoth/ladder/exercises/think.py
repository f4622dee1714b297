"""Exercises on the MLP."""

import torch
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise


def mlp(x_TC: Tensor, up_HC: Tensor, down_CH: Tensor) -> Tensor:
    """Up to H channels, ReLU, down to C, without biases; the matrices are as nn.Linear keeps them."""
    return (x_TC @ up_HC.T).relu() @ down_CH.T


def relu_last(x_TC, up_HC, down_CH):
    """ReLU comes last; it should stand between the two layers, and what comes out may be negative."""
    return (x_TC @ up_HC.T @ down_CH.T).relu()


def linear(x_TC, up_HC, down_CH):
    """Without a ReLU two layers are one."""
    return x_TC @ up_HC.T @ down_CH.T


def relu_first(x_TC, up_HC, down_CH):
    """ReLU comes first; it should come after the first layer."""
    return x_TC.relu() @ up_HC.T @ down_CH.T


def parameters(C: int) -> int:
    """How many numbers an MLP C → 4C → C with both biases has."""
    return 8 * C * C + 5 * C


def no_biases(C):
    """The biases, 4C and C, are missing."""
    return 8 * C * C


def one_layer(C):
    """Only the way up is counted."""
    return 4 * C * C + 4 * C


EXERCISES = (
    Exercise(
        mlp,
        (relu_last, linear, relu_first),
        lambda rng: [tuple(torch.randn(*s, generator=rng) for s in ((5, 3), (8, 3), (3, 8)))],
    ),
    Exercise(parameters, (no_biases, one_layer), lambda rng: [(32,), (128,)]),
)
