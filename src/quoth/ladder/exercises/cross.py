"""Exercises on cross-attention."""

import torch
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise


def cross(q_TK: Tensor, k_SK: Tensor, v_SC: Tensor) -> Tensor:
    """Cross-attention of T queries to S keys and values, scores over √K: (T, C)."""
    score_TS = q_TK @ k_SK.T * q_TK.shape[-1] ** -0.5
    return score_TS.softmax(-1) @ v_SC


def with_a_mask(q_TK, k_SK, v_SC):
    """There is a causal mask; the source is known as a whole."""
    score_TS = q_TK @ k_SK.T * q_TK.shape[-1] ** -0.5
    return score_TS.masked_fill(torch.ones_like(score_TS).triu(1).bool(), -torch.inf).softmax(-1) @ v_SC


def over_targets(q_TK, k_SK, v_SC):
    """The softmax runs over the queries; it should run over the source."""
    return (q_TK @ k_SK.T * q_TK.shape[-1] ** -0.5).softmax(0) @ v_SC


def best_key_only(q_TK, k_SK, v_SC):
    """Each query takes the value of its best key alone; a softmax mixes them."""
    return v_SC[(q_TK @ k_SK.T).argmax(-1)]


def alignment(weight_TS: Tensor) -> list[tuple[int, int]]:
    """For each written token t the pair (t, s) of it and the source token that it looks at most."""
    return [(t, int(s)) for t, s in enumerate(weight_TS.argmax(-1))]


def of_the_source(weight_TS):
    """That is for each source token who looks at it most; it is wanted for each written one."""
    return [(int(t), s) for s, t in enumerate(weight_TS.argmax(0))]


def swapped(weight_TS, *, of=alignment):
    """The pairs are swapped: the written token comes first."""
    return [(s, t) for t, s in of(weight_TS)]


def inputs(rng: torch.Generator) -> list[tuple[Tensor, Tensor, Tensor]]:
    shapes = [(3, 5), (6, 4)]
    return [tuple(torch.randn(n, 4, generator=rng) for n in (T, S, S)) for T, S in shapes]  # type: ignore[misc]


EXERCISES = (
    Exercise(cross, (with_a_mask, over_targets, best_key_only), inputs),
    Exercise(alignment, (of_the_source, swapped), lambda rng: [(torch.randn(4, 6, generator=rng).softmax(-1),)]),
)
