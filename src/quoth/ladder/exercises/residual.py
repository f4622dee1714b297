"""Exercises on residual connections."""

from collections.abc import Callable

import torch
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise

Part = Callable[[Tensor], Tensor]


def block(x_TC: Tensor, attend: Part, think: Part, norm: Part) -> Tensor:
    """A pre-norm block: x plus attention of its normed copy, and then that plus the MLP of its normed copy."""
    x_TC = x_TC + attend(norm(x_TC))
    return x_TC + think(norm(x_TC))


def without(x_TC, attend, think, norm):
    """Nothing is added: the parts replace what passes through."""
    return think(norm(attend(norm(x_TC))))


def post_norm(x_TC, attend, think, norm):
    """The norm stands on the residual path, as in the first Transformer; it should be inside each branch."""
    x_TC = norm(x_TC + attend(x_TC))
    return norm(x_TC + think(x_TC))


def side_by_side(x_TC, attend, think, norm):
    """The MLP reads what came in; it should read what attention has added to."""
    return x_TC + attend(norm(x_TC)) + think(norm(x_TC))


def from_the_start(x_TC, attend, think, norm):
    """The second sum begins with what came in again, so what attention said is lost."""
    return x_TC + think(norm(x_TC + attend(norm(x_TC))))


def gradient(factors: list[float], residual: bool) -> float:
    """The derivative of a chain of layers y = f · x, or with residuals y = x + f · x, by its first x."""
    product = 1.0
    for f in factors:
        product *= 1 + f if residual else f
    return product


def added_up(factors, residual):
    """Factors are added; by the chain rule they multiply."""
    return 1 + sum(factors) if residual else sum(factors)


def never_residual(factors, residual, *, of=gradient):
    """With residuals each layer's derivative is 1 + f."""
    return of(factors, False)


def inputs(rng: torch.Generator) -> list[tuple[Tensor, Part, Part, Part]]:
    x_TC = torch.randn(4, 3, generator=rng)
    return [(x_TC, lambda x: x.cumsum(0), lambda x: x.relu() * 2, lambda x: x / (1 + x.abs()))]


EXERCISES = (
    Exercise(block, (without, post_norm, side_by_side, from_the_start), inputs),
    Exercise(gradient, (added_up, never_residual), lambda rng: [([0.1, 0.2, 0.3], True), ([0.5, 0.5], False)]),
)
