"""Exercises on the KL divergence and the policy gradient."""

import torch
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise
from quoth.train.divergence import kl_per_place


def kl(policy_BTV: Tensor, reference_BTV: Tensor) -> Tensor:
    """KL(π, π_ref) of the next token at each place, in nats, from both models' logits: (B, T)."""
    return kl_per_place(policy_BTV, reference_BTV)


def other_way(policy_BTV, reference_BTV, *, of=kl):
    """That is KL(π_ref, π): the mean of the difference of logarithms should be the policy's, not the reference's."""
    return of(reference_BTV, policy_BTV)


def of_logits(policy_BTV, reference_BTV):
    """Logits are subtracted, but they are no log-probabilities; a log-softmax should come first."""
    return (policy_BTV.softmax(-1) * (policy_BTV - reference_BTV)).sum(-1)


def not_weighed(policy_BTV, reference_BTV):
    """All tokens count alike; each difference should be weighed by the policy's probability."""
    return (policy_BTV.log_softmax(-1) - reference_BTV.log_softmax(-1)).mean(-1)


def token_rewards(score: float, policy_T: Tensor, reference_T: Tensor, beta: float) -> Tensor:
    """The reward of each token of an answer: −beta (log π − log π_ref), and for the last one the answer's score too.
    Given are the drawn tokens' log-probabilities: (T,) → (T,).
    """
    reward_T = -beta * (policy_T - reference_T)
    reward_T[-1] += score
    return reward_T


def score_everywhere(score, policy_T, reference_T, beta, *, of=token_rewards):
    """Every token gets the score, so a long answer gets more of it; only the last one should."""
    return of(0.0, policy_T, reference_T, beta) + score


def drives_away(score, policy_T, reference_T, beta, *, of=token_rewards):
    """The sign of the KL's part is wrong: the policy is paid for leaving the reference."""
    return of(score, policy_T, reference_T, -beta)


def reward_gradient(logit_N: Tensor, reward_N: Tensor) -> Tensor:
    """The gradient, by the logits, of the mean reward of answers that softmax(logits) draws: (N,)."""
    p_N = logit_N.softmax(-1)
    return p_N * (reward_N - p_N @ reward_N)


def without_mean(logit_N, reward_N):
    """The mean reward is not subtracted; to make one answer likelier makes all others less likely."""
    return logit_N.softmax(-1) * reward_N


def descent(logit_N, reward_N, *, of=reward_gradient):
    """The sign is wrong: that way the reward falls."""
    return -of(logit_N, reward_N)


def pairs(rng: torch.Generator, *shape: int) -> tuple[Tensor, Tensor]:
    first, second = torch.randn(2, *shape, generator=rng)
    return first, second


EXERCISES = (
    Exercise(kl, (other_way, of_logits, not_weighed), lambda rng: [pairs(rng, 2, 3, 5)]),
    Exercise(
        token_rewards,
        (score_everywhere, drives_away),
        lambda rng: [(2.0, *(-x.abs() for x in pairs(rng, T)), 0.25) for T in (4, 2)],
    ),
    Exercise(reward_gradient, (without_mean, descent), lambda rng: [pairs(rng, 5), pairs(rng, 3)]),
)
