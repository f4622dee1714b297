"""Exercises on sets."""

import torch
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise


def undo(order: list[int]) -> list[int]:
    """The order that undoes an order: x[order][undo(order)] is x."""
    return sorted(range(len(order)), key=lambda i: order[i])


def the_same(order):
    """That is the order itself; applied twice it does not lead back."""
    return order


def reversed_order(order):
    """That is the order backwards, which does not undo it."""
    return order[::-1]


def bag(x_TC: Tensor) -> Tensor:
    """Attention without mask, positions or learned matrices: softmax(x xᵀ / √C) x. (T, C) → (T, C)."""
    score_TT = x_TC @ x_TC.T * x_TC.shape[-1] ** -0.5
    return score_TT.softmax(-1) @ x_TC


def causal_bag(x_TC):
    """There is a mask; a set has no earlier and later."""
    score_TT = x_TC @ x_TC.T * x_TC.shape[-1] ** -0.5
    return score_TT.masked_fill(torch.ones(len(x_TC), len(x_TC)).triu(1).bool(), -torch.inf).softmax(-1) @ x_TC


def mean_of_all(x_TC):
    """Every token gets the same mean; weights should come from the products of tokens."""
    return x_TC.mean(0, keepdim=True).expand_as(x_TC)


EXERCISES = (
    Exercise(undo, (the_same, reversed_order), lambda rng: [([2, 0, 3, 1],), ([1, 2, 3, 4, 0],)]),
    Exercise(bag, (causal_bag, mean_of_all), lambda rng: [(torch.randn(5, 4, generator=rng),)]),
)
