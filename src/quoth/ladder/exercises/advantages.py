"""Exercises on advantages."""

import torch
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise
from quoth.train.advantages import gae


def grpo(reward_N: Tensor) -> Tensor:
    """Each reward of a group less their mean, over their standard deviation (by N − 1); 0 if all are equal: (N,)."""
    if (reward_N == reward_N[0]).all():
        return torch.zeros_like(reward_N)
    return (reward_N - reward_N.mean()) / reward_N.std()


def nothing_by_nothing(reward_N):
    """Where all rewards are equal, 0 / 0 is not a number; the advantages should be 0."""
    return (reward_N - reward_N.mean()) / reward_N.std()


def population(reward_N, *, of=grpo):
    """The deviation divides by N; it should divide by N − 1."""
    return of(reward_N) * (len(reward_N) / (len(reward_N) - 1)) ** 0.5


def not_centred(reward_N, *, of=grpo):
    """The mean is not subtracted, so every answer with a reward above 0 is made likelier."""
    return of(reward_N) + torch.nan_to_num(reward_N.mean() / reward_N.std(), posinf=0, neginf=0)


def rloo(reward_N: Tensor) -> Tensor:
    """Each reward of a group less the mean of the others: (N,)."""
    return reward_N - (reward_N.sum() - reward_N) / (len(reward_N) - 1)


def mean_of_all(reward_N):
    """The mean of all has the answer's own reward in it; it should be the mean of the others."""
    return reward_N - reward_N.mean()


def sum_of_others(reward_N):
    """The sum of the others is subtracted; it should be their mean."""
    return reward_N - (reward_N.sum() - reward_N)


def estimate(reward_T: Tensor, value_T: Tensor, gamma: float, lam: float) -> Tensor:
    """GAE: each token's delta, plus gamma · lam times the next token's result: (T,). A delta is the token's reward plus
    gamma times the next value, which is 0 after the last token, less the token's own value.
    """
    return gae(reward_T[None], value_T[None], torch.ones_like(reward_T).bool()[None], gamma, lam)[0]


def goes_on(reward_T, value_T, gamma, lam, *, of=estimate):
    """After the last token its own value stands for the next one; nothing comes after it, so that should be 0."""
    last_T = torch.zeros_like(reward_T)
    last_T[-1] = gamma * value_T[-1]
    return of(reward_T + last_T, value_T, gamma, lam)


def no_lambda(reward_T, value_T, gamma, lam, *, of=estimate):
    """lam is left out of the factor; it should be gamma times lam."""
    return of(reward_T, value_T, gamma, 1.0)


def returned(reward_T, value_T, gamma, lam, *, of=estimate):
    """The token's own value is not subtracted: that is the return, and not the advantage."""
    return of(reward_T, value_T, gamma, lam) + value_T


def groups(rng: torch.Generator) -> list[tuple[Tensor]]:
    return [(torch.tensor(rewards),) for rewards in ([10.0, -20.0, 35.0, 0.0], [3.0, 3.0, 3.0], [1.0, 40.0])]


EXERCISES = (
    Exercise(grpo, (nothing_by_nothing, population, not_centred), groups),
    Exercise(rloo, (mean_of_all, sum_of_others), groups),
    Exercise(estimate, (goes_on, no_lambda, returned), lambda rng: [(*torch.randn(2, 5, generator=rng), 0.9, 0.8)]),
)
