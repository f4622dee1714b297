"""Exercises on rows of a batch."""

import torch
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise


def mean_loss(loss_BT: Tensor, weight_BT: Tensor) -> Tensor:
    """The mean loss of all targets that count: each loss has a weight of 0 or 1."""
    return (loss_BT * weight_BT).sum() / weight_BT.sum()


def mean_of_means(loss_BT, weight_BT):
    """The mean of rows' means lets a target of a short row count more; sum all, then divide by how many count."""
    return ((loss_BT * weight_BT).sum(-1) / weight_BT.sum(-1)).mean()


def over_everything(loss_BT, weight_BT):
    """The sum is divided by the number of all targets; only those that count should be counted."""
    return (loss_BT * weight_BT).mean()


def unweighted(loss_BT, weight_BT):
    """The weights are not looked at."""
    return loss_BT.mean()


def rows_moved(before_BTV: Tensor, after_BTV: Tensor) -> list[int]:
    """The rows of a batch in which any number differs."""
    return [b for b in range(len(before_BTV)) if not torch.equal(before_BTV[b], after_BTV[b])]


def times_moved(before_BTV, after_BTV):
    """Those are the times at which a number differs; rows are the first axis."""
    return (before_BTV != after_BTV).any(-1).any(0).nonzero()[:, 0].tolist()


def all_moved(before_BTV, after_BTV):
    """A row counts only when all of its numbers differ; one is enough."""
    return (before_BTV != after_BTV).flatten(1).all(-1).nonzero()[:, 0].tolist()


def moved(rng: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    x_BTV = torch.randn(4, 3, 2, generator=rng)
    y_BTV = x_BTV.clone()
    y_BTV[1, 0, 0] += 1
    y_BTV[3] += 1
    return [(x_BTV, y_BTV)]


def ragged(rng: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    weight_BT = torch.tensor([[1.0, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]])
    return [(torch.rand(3, 4, generator=rng), weight_BT) for _ in range(2)]


EXERCISES = (
    Exercise(mean_loss, (mean_of_means, over_everything, unweighted), ragged),
    Exercise(rows_moved, (times_moved, all_moved), moved),
)
