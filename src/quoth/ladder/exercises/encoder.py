"""Exercises on masked characters."""

import torch
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise


def hide(token_T: Tensor, places: list[int], mask: int) -> tuple[Tensor, Tensor, Tensor]:
    """x with the token `mask` at the places, y the text as it was, and a weight of 1 at the places, else 0."""
    weight_T = torch.zeros(len(token_T))
    weight_T[places] = 1
    return token_T.masked_fill(weight_T.bool(), mask), token_T, weight_T


def all_count(token_T, places, mask, *, of=hide):
    """Every token counts; only hidden ones should, or copying would be learned."""
    x_T, y_T, weight_T = of(token_T, places, mask)
    return x_T, y_T, torch.ones_like(weight_T)


def hidden_targets(token_T, places, mask, *, of=hide):
    """y is hidden too; it should be what stood there."""
    x_T, _, weight_T = of(token_T, places, mask)
    return x_T, x_T, weight_T


def not_hidden(token_T, places, mask, *, of=hide):
    """x is not hidden, so the answer can be read off."""
    _, y_T, weight_T = of(token_T, places, mask)
    return y_T, y_T, weight_T


def guesses(logit_TV: Tensor, token_T: Tensor, mask: int) -> Tensor:
    """The text with each hidden token, which is `mask`, replaced by the likeliest one that is not `mask` itself."""
    known_TV = logit_TV.clone()
    known_TV[:, mask] = -torch.inf
    return torch.where(token_T == mask, known_TV.argmax(-1), token_T)


def everywhere(logit_TV, token_T, mask, *, of=guesses):
    """Tokens that were not hidden are replaced too."""
    return of(logit_TV, torch.full_like(token_T, mask), mask)


def mask_itself(logit_TV, token_T, mask):
    """The mask itself may be guessed; it is no token of the text."""
    return torch.where(token_T == mask, logit_TV.argmax(-1), token_T)


def logits(rng: torch.Generator) -> list[tuple[Tensor, Tensor, int]]:
    logit_TV = torch.randn(5, 4, generator=rng)
    logit_TV[2, 3] = 9
    return [(logit_TV, torch.tensor([0, 3, 3, 1, 2]), 3)]


EXERCISES = (
    Exercise(hide, (all_count, hidden_targets, not_hidden), lambda rng: [(torch.tensor([5, 2, 7, 2]), [1, 2], 9)]),
    Exercise(guesses, (everywhere, mask_itself), logits),
)
