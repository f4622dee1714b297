"""Rewards from a reward model's scores."""

from __future__ import annotations

import torch

from quoth.recipes.rewards import preference_over

BEFORE = torch.randn(500, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 1.7 + 4


def test_a_mean_answer_of_before_is_worth_nothing_and_a_good_one_one() -> None:
    mean, deviation = BEFORE.mean(), BEFORE.std()
    found = preference_over(BEFORE)(torch.stack([mean, mean + deviation]))
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0], dtype=torch.float64))


def test_rewards_are_log_probabilities_of_being_preferred_to_a_good_answer() -> None:
    score_B, good = torch.linspace(-3, 12, 40, dtype=torch.float64), BEFORE.mean() + BEFORE.std()
    log_B = (score_B.exp() / (score_B.exp() + good.exp())).log()
    found = preference_over(BEFORE)(score_B)
    # Moved and stretched, and nothing else.
    torch.testing.assert_close(found.diff() / found[-1].sub(found[0]), log_B.diff() / log_B[-1].sub(log_B[0]))


def test_higher_scores_are_worth_more_but_never_much_more_than_good_ones() -> None:
    mean, deviation = BEFORE.mean(), BEFORE.std()
    steps = torch.arange(-3, 40, dtype=torch.float64)
    found = preference_over(BEFORE)(mean + deviation * steps)
    assert (found.diff()[:20] > 0).all() and (found.diff() >= 0).all()
    assert found[-1] < 2 and found[0] < -4


def test_scores_that_are_all_the_same_give_finite_rewards() -> None:
    assert preference_over(torch.full((8,), 3.0))(torch.tensor([-1e6, 3.0, 1e6])).isfinite().all()
