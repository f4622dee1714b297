"""Exercises on dropout."""

import torch
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise


def dropout(x_TC: Tensor, kept_TC: Tensor, rate: float) -> Tensor:
    """x where `kept` is true, else 0, scaled so that its mean stays what it was; `rate` is the share dropped."""
    return x_TC * kept_TC / (1 - rate)


def not_scaled(x_TC, kept_TC, rate, *, of=dropout):
    """What is kept is not scaled up, so that the mean falls."""
    return of(x_TC, kept_TC, rate) * (1 - rate)


def scaled_down(x_TC, kept_TC, rate):
    """What is kept is multiplied by 1 − rate; it should be divided."""
    return x_TC * kept_TC * (1 - rate)


def by_rate(x_TC, kept_TC, rate):
    """What is kept is divided by the rate, the share dropped; it should be divided by 1 − rate, the share kept."""
    return x_TC * kept_TC / rate


def mask_inverted(x_TC, kept_TC, rate, *, of=dropout):
    """What should be kept is dropped, and what should be dropped is kept."""
    return of(x_TC, ~kept_TC, rate)


def overfits(train: list[float], validation: list[float]) -> int | None:
    """The place of the lowest validation loss, if after it validation rises while training falls; or None."""
    best = validation.index(min(validation))
    return best if validation[-1] > validation[best] and train[-1] < train[best] else None


def by_training(train, validation):
    """That is the place of the lowest training loss, which says nothing of text that was not seen."""
    return train.index(min(train)) if overfits(train, validation) is not None else None


def training_ignored(train, validation):
    """Where the training loss rises too, that is not overfitting: None."""
    best = validation.index(min(validation))
    return best if validation[-1] > validation[best] else None


def always(train, validation):
    """A run whose validation loss still falls does not overfit: None."""
    return validation.index(min(validation))


EXERCISES = (
    Exercise(
        dropout,
        (not_scaled, scaled_down, by_rate, mask_inverted),
        lambda rng: [(torch.randn(3, 4, generator=rng), torch.rand(3, 4, generator=rng) < 0.8, 0.2)],
    ),
    Exercise(
        overfits,
        (by_training, training_ignored, always),
        lambda rng: [
            ([3.0, 2, 1, 0.5], [3.0, 2.2, 2.4, 2.9]),
            ([3.0, 2, 1.5], [3.1, 2.2, 1.8]),
            ([2.0, 1, 3], [2.1, 1.2, 3.1]),
        ],
    ),
)
