"""Exercises on direct preference optimization."""

import torch
import torch.nn.functional as F
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise


def best_policy(reference_N: Tensor, reward_N: Tensor, beta: float) -> Tensor:
    """Log-probabilities of the policy with the best mean reward less beta · KL, from the reference's: (N,)."""
    return (reference_N + reward_N / beta).log_softmax(-1)


def beta_times(reference_N, reward_N, beta, *, of=best_policy):
    """The reward is multiplied by beta; it should be divided: the dearer the KL, the nearer the reference."""
    return of(reference_N, reward_N * beta**2, beta)


def not_normalised(reference_N, reward_N, beta):
    """The probabilities do not sum to 1."""
    return reference_N + reward_N / beta


def no_reference(reference_N, reward_N, beta, *, of=best_policy):
    """The reference is left out; that is the best policy if every answer was equally likely before."""
    return of(torch.zeros_like(reference_N), reward_N, beta)


def dpo_loss(
    chosen_N: Tensor, rejected_N: Tensor, before_chosen_N: Tensor, before_rejected_N: Tensor, beta: float
) -> Tensor:
    """DPO's loss, a mean over pairs: −log σ of the difference of implicit rewards, beta (log π − log π_ref). Given are
    the answers' log-probabilities under the policy, and under the reference, that is, before.
    """
    return -F.logsigmoid(beta * ((chosen_N - before_chosen_N) - (rejected_N - before_rejected_N))).mean()


def without_reference(chosen_N, rejected_N, before_chosen_N, before_rejected_N, beta, *, of=dpo_loss):
    """The reference is left out, so an answer that was likelier before counts as preferred already."""
    return of(chosen_N, rejected_N, 0 * before_chosen_N, 0 * before_rejected_N, beta)


def without_beta(chosen_N, rejected_N, before_chosen_N, before_rejected_N, beta, *, of=dpo_loss):
    """beta is left out; it is the factor of the implicit rewards."""
    return of(chosen_N, rejected_N, before_chosen_N, before_rejected_N, 1.0)


def beta_outside(chosen_N, rejected_N, before_chosen_N, before_rejected_N, beta, *, of=dpo_loss):
    """beta multiplies the loss; it should stand inside of the sigmoid."""
    return beta * of(chosen_N, rejected_N, before_chosen_N, before_rejected_N, 1.0)


def exchanged(chosen_N, rejected_N, before_chosen_N, before_rejected_N, beta, *, of=dpo_loss):
    """Chosen and rejected are exchanged, so the rejected answer is taught."""
    return of(rejected_N, chosen_N, before_rejected_N, before_chosen_N, beta)


def summed(chosen_N, rejected_N, before_chosen_N, before_rejected_N, beta, *, of=dpo_loss):
    """The losses of the pairs are summed; the mean is wanted."""
    return of(chosen_N, rejected_N, before_chosen_N, before_rejected_N, beta) * len(chosen_N)


EXERCISES = (
    Exercise(
        best_policy,
        (beta_times, not_normalised, no_reference),
        lambda rng: [(torch.randn(5, generator=rng).log_softmax(-1), torch.randn(5, generator=rng), 0.5)],
    ),
    Exercise(
        dpo_loss,
        (without_reference, without_beta, beta_outside, exchanged, summed),
        lambda rng: [(*(-9 * torch.rand(4, 3, generator=rng)), 0.3)],
    ),
)
