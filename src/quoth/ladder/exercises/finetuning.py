"""Exercises on finetuning."""

import torch
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise


def target_weights(ids: list[int], roles: list[str], begin: int) -> list[int]:
    """The weight of each target ids[1:]: 1 for what the assistant writes, its end token too, else 0. Each token has the
    role of its message, and the assistant's messages start with the token `begin`, which the template writes.
    """
    return [int(role == "assistant" and i != begin) for i, role in zip(ids[1:], roles[1:], strict=True)]


def one_late(ids, roles, begin, *, of=target_weights):
    """The weights are those of ids[:-1], what is read; they should be those of the targets, one token later."""
    return of([begin, *ids[:-1]], ["user", *roles[:-1]], begin)


def without_end(ids, roles, begin, *, of=target_weights):
    """The token that ends an answer does not count, so answers would never end."""
    ends = [a == "assistant" and b != a for a, b in zip(roles, [*roles[1:], ""], strict=True)]
    return [int(w and not end) for w, end in zip(of(ids, roles, begin), ends[1:], strict=True)]


def with_begin(ids, roles, begin, *, of=target_weights):
    """The token `begin` counts; the template writes it, and the model is asked only after it."""
    return of(ids, roles, -1)


def everything(ids, roles, begin):
    """All targets count; what the user says should only be read."""
    return [1] * (len(ids) - 1)


def packed_mask(segment_T: Tensor) -> Tensor:
    """A (T, T) tensor of booleans for several conversations, told apart by their numbers, that are packed one after the
    other: true where the row's token may hear the column's.
    """
    T = len(segment_T)
    return (segment_T[:, None] == segment_T) & torch.ones(T, T).tril().bool()


def leaking(segment_T):
    """A conversation hears those before it; each should hear only itself."""
    return torch.ones(len(segment_T), len(segment_T)).tril().bool()


def not_causal(segment_T):
    """The future is heard; within its conversation a token should hear only itself and those before it."""
    return segment_T[:, None] == segment_T


def transposed(segment_T, *, of=packed_mask):
    """Rows and columns are exchanged: rows should be those who hear."""
    return of(segment_T).T


def conversations(rng: torch.Generator) -> list[tuple[list[int], list[str], int]]:
    asked, twice = ["user"] * 4 + ["assistant"] * 4, ["user"] * 2 + ["assistant"] * 3
    return [([8, 3, 1, 7, 9, 5, 2, 7], asked, 9), ([8, 7, 9, 4, 7, 8, 7, 9, 6, 7], twice * 2, 9)]


EXERCISES = (
    Exercise(target_weights, (one_late, without_end, with_begin, everything), conversations),
    Exercise(
        packed_mask,
        (leaking, not_causal, transposed),
        lambda rng: [(torch.tensor([0, 0, 0, 1, 1]),), (torch.tensor([3, 1, 1, 2, 2, 2]),)],
    ),
)
