"""Exercises on PPO's clipped objective."""

import torch
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise
from quoth.train.policy import clipped_policy


def clipped_loss(new_N: Tensor, old_N: Tensor, advantage_N: Tensor, clip: float) -> Tensor:
    """Each token's loss −min(ρ A, clipped ρ · A), with the ratio ρ = π / π_old held within 1 − clip to 1 + clip. Given
    are the log-probabilities of the new and the old policy: (N,).
    """
    return clipped_policy(new_N, old_N, advantage_N, clip)[0]


def without_min(new_N, old_N, advantage_N, clip):
    """The clipped ratio stands alone: a token that has moved the wrong way has no gradient, so it cannot come back; the
    smaller of both products is wanted.
    """
    return -(new_N - old_N).exp().clamp(1 - clip, 1 + clip) * advantage_N


def with_max(new_N, old_N, advantage_N, clip):
    """The larger of both products is taken; the smaller one is what holds the policy back."""
    ratio_N = (new_N - old_N).exp()
    return -torch.max(ratio_N * advantage_N, ratio_N.clamp(1 - clip, 1 + clip) * advantage_N)


def min_of_ratios(new_N, old_N, advantage_N, clip):
    """The minimum is of the ratios; it should be of the products, which differs where the advantage is negative."""
    ratio_N = (new_N - old_N).exp()
    return -torch.min(ratio_N, ratio_N.clamp(1 - clip, 1 + clip)) * advantage_N


def ascent(new_N, old_N, advantage_N, clip, *, of=clipped_loss):
    """The minus is missing: a loss is made small, and this should be made large."""
    return -of(new_N, old_N, advantage_N, clip)


def upside_down(new_N, old_N, advantage_N, clip, *, of=clipped_loss):
    """The ratio is π_old / π; the new policy should be above."""
    return of(old_N, new_N, advantage_N, clip)


def teaches(ratio_N: Tensor, advantage_N: Tensor, clip: float) -> Tensor:
    """True for each token whose clipped loss has a gradient: (N,). No ratio lies just at 1 − clip or 1 + clip."""
    too_high_N, too_low_N = (ratio_N > 1 + clip) & (advantage_N > 0), (ratio_N < 1 - clip) & (advantage_N < 0)
    return ~(too_high_N | too_low_N)


def inside_only(ratio_N, advantage_N, clip):
    """A token that has moved the wrong way has a gradient too, whatever its ratio."""
    return (ratio_N - 1).abs() < clip


def sides_exchanged(ratio_N, advantage_N, clip, *, of=teaches):
    """The sides are exchanged: a better token is stopped above 1 + clip, and a worse one below 1 − clip."""
    return of(ratio_N, -advantage_N, clip)


def stopped(ratio_N, advantage_N, clip, *, of=teaches):
    """True stands where there is no gradient; it should stand where there is one."""
    return ~of(ratio_N, advantage_N, clip)


RATIOS, ADVANTAGES = torch.tensor([0.5, 0.5, 0.9, 0.9, 1.1, 1.1, 1.6, 1.6]), torch.tensor([1.0, -2.0] * 4)
OLD = torch.tensor([-1.0, -2.0, -0.5, -3.0] * 2)
EXERCISES = (
    Exercise(
        clipped_loss,
        (without_min, with_max, min_of_ratios, ascent, upside_down),
        lambda rng: [(OLD + RATIOS.log(), OLD, ADVANTAGES, clip) for clip in (0.2, 0.3)],
    ),
    Exercise(
        teaches,
        (inside_only, sides_exchanged, stopped),
        lambda rng: [(RATIOS, ADVANTAGES, clip) for clip in (0.2, 0.55)],
    ),
)
