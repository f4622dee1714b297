"""Exercises on the embedding."""

import torch
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise


def parameters(V: int, C: int) -> int:
    """How many numbers an embedding of C channels and a head with a bias have, for V tokens."""
    return V * C + C * V + V


def no_bias(V, C):
    """The head's bias of V numbers is missing."""
    return 2 * V * C


def bias_of_width(V, C):
    """The bias has C numbers; there is one for each logit, so V."""
    return 2 * V * C + C


def one_table(V, C, *, of=parameters):
    """Embedding and head are counted once; they are two tables here."""
    return of(V, C) - V * C


def look_up(token_T: Tensor, table_VC: Tensor) -> Tensor:
    """The rows of the tokens, (T, C), as a product of one-hot rows with the table."""
    return torch.nn.functional.one_hot(token_T, len(table_VC)).to(table_VC.dtype) @ table_VC


def first_rows(token_T, table_VC):
    """Those are the table's first T rows, not the tokens' rows."""
    return table_VC[: len(token_T)]


def scaled_by_id(token_T, table_VC, *, of=look_up):
    """Each row is multiplied by its token's id; a one-hot row has a 1 there."""
    return of(token_T, table_VC) * token_T[:, None]


EXERCISES = (
    Exercise(parameters, (no_bias, bias_of_width, one_table), lambda rng: [(65, 32), (256, 64)]),
    Exercise(
        look_up,
        (first_rows, scaled_by_id),
        lambda rng: [(torch.tensor([3, 1, 4, 1]), torch.randn(6, 3, generator=rng))],
    ),
)
