"""Exercises on self-attention."""

import torch
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise


def causal_mask(T: int) -> Tensor:
    """A (T, T) tensor of booleans, true where the row's token may hear the column's."""
    return torch.ones(T, T).tril().bool()


def without_diagonal(T):
    """A token may hear itself too: the diagonal should be true."""
    return torch.ones(T, T).tril(-1).bool()


def upper_triangle(T):
    """The mask shows the future and hides the past; it should be the other way round."""
    return torch.ones(T, T).triu().bool()


def hidden(T):
    """True stands where the column is hidden; it should stand where it may be heard."""
    return torch.ones(T, T).triu(1).bool()


def head(q_TK: Tensor, k_TK: Tensor, v_TK: Tensor) -> Tensor:
    """Causal attention of one head, scores over √K: (T, K)."""
    return masked(q_TK @ k_TK.T * q_TK.shape[-1] ** -0.5).softmax(-1) @ v_TK


def masked(score_TT: Tensor) -> Tensor:
    return score_TT.masked_fill(~causal_mask(len(score_TT)), -torch.inf)


def masked_too_late(q_TK, k_TK, v_TK):
    """The future is hidden after the softmax, so rows do not sum to 1; it should be −∞ before it."""
    return (q_TK @ k_TK.T * q_TK.shape[-1] ** -0.5).softmax(-1).tril() @ v_TK


def masked_with_zero(q_TK, k_TK, v_TK):
    """The future has the score 0, which is a weight; it should be −∞."""
    return (q_TK @ k_TK.T * q_TK.shape[-1] ** -0.5).tril().softmax(-1) @ v_TK


def over_queries(q_TK, k_TK, v_TK):
    """The softmax runs over queries; each query's weights over the keys should sum to 1."""
    return masked(q_TK @ k_TK.T * q_TK.shape[-1] ** -0.5).softmax(0) @ v_TK


def not_scaled(q_TK, k_TK, v_TK, *, of=head):
    """Scores are not divided by √K."""
    return of(q_TK * q_TK.shape[-1] ** 0.5, k_TK, v_TK)


def divided_by_size(q_TK, k_TK, v_TK, *, of=head):
    """Scores are divided by K; it should be its root."""
    return of(q_TK * q_TK.shape[-1] ** -0.5, k_TK, v_TK)


def exchanged(q_TK, k_TK, v_TK, *, of=head):
    """Queries and keys are exchanged: rows of the scores should be queries."""
    return of(k_TK, q_TK, v_TK)


EXERCISES = (
    Exercise(causal_mask, (without_diagonal, upper_triangle, hidden), lambda rng: [(4,), (7,)]),
    Exercise(
        head,
        (masked_too_late, masked_with_zero, over_queries, not_scaled, divided_by_size, exchanged),
        lambda rng: [torch.randn(3, T, 8, generator=rng).unbind() for T in (5, 8)],
    ),
)
