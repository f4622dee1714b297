"""Exercises on reward models."""

import torch
import torch.nn.functional as F
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise


def pair_loss(chosen_N: Tensor, rejected_N: Tensor) -> Tensor:
    """Bradley and Terry's loss: the mean over pairs of −log σ(chosen − rejected), also of scores that are far apart."""
    return -F.logsigmoid(chosen_N - rejected_N).mean()


def sigmoid_then_log(chosen_N, rejected_N):
    """Sigmoid and logarithm are computed one after the other, so the loss of scores that are far apart is infinite."""
    return -(chosen_N - rejected_N).sigmoid().log().mean()


def summed(chosen_N, rejected_N, *, of=pair_loss):
    """The losses of the pairs are summed; the mean is wanted."""
    return of(chosen_N, rejected_N) * len(chosen_N)


def positive(chosen_N, rejected_N, *, of=pair_loss):
    """The minus is missing: log σ is never above 0, and training would make it small."""
    return -of(chosen_N, rejected_N)


def exchanged(chosen_N, rejected_N, *, of=pair_loss):
    """Chosen and rejected are exchanged, so the rejected answer is taught."""
    return of(rejected_N, chosen_N)


def no_comparison(chosen_N, rejected_N):
    """Each score is judged by itself; only the difference of a pair's scores has a meaning."""
    return -(F.logsigmoid(chosen_N) + F.logsigmoid(-rejected_N)).mean()


def accuracy(chosen_N: Tensor, rejected_N: Tensor) -> Tensor:
    """The share of pairs whose chosen answer has the higher score; a tie is half right, as a tossed coin would be."""
    return ((chosen_N > rejected_N).float() + 0.5 * (chosen_N == rejected_N)).mean()


def ties_right(chosen_N, rejected_N):
    """A tie counts as right, so a model that gives every answer the same score would be perfect."""
    return (chosen_N >= rejected_N).float().mean()


def ties_wrong(chosen_N, rejected_N):
    """A tie counts as wrong, so a model that gives every answer the same score is worse than a tossed coin."""
    return (chosen_N > rejected_N).float().mean()


def above_zero(chosen_N, rejected_N):
    """Scores are compared with 0; they mean something only beside the pair's other score."""
    return (chosen_N > 0).float().mean()


def confidence(chosen_N, rejected_N):
    """That is the mean probability of the choice; its accuracy only asks which answer is likelier."""
    return (chosen_N - rejected_N).sigmoid().mean()


def of_the_rejected(chosen_N, rejected_N, *, of=accuracy):
    """That is the share in which the rejected answer wins."""
    return of(rejected_N, chosen_N)


SCORES = torch.tensor([1.0, -2.0, -0.5, 3.0, -0.5]), torch.tensor([0.5, -2.0, 1.5, -1.0, -3.0])
EXERCISES = (
    Exercise(
        pair_loss,
        (sigmoid_then_log, summed, positive, exchanged, no_comparison),
        lambda rng: [SCORES, (torch.tensor([-90.0, 2.0]), torch.tensor([60.0, 1.0]))],
    ),
    Exercise(accuracy, (ties_right, ties_wrong, above_zero, confidence, of_the_rejected), lambda rng: [SCORES]),
)
