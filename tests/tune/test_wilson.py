"""Intervals of shares, compared with their definition and with published ones."""

from __future__ import annotations

import pytest

from quoth.tune.wilson import Z, wilson

# Table I of Newcombe 1998, "Two-sided confidence intervals for the single proportion", method 3.
PUBLISHED = {
    (81, 263): (0.2553, 0.3662),
    (15, 148): (0.0624, 0.1605),
    (0, 20): (0.0, 0.1611),
    (1, 29): (0.0061, 0.1718),
}


@pytest.mark.parametrize(("counted", "ends"), PUBLISHED.items())
def test_it_is_the_published_interval(counted: tuple[int, int], ends: tuple[float, float]) -> None:
    assert wilson(*counted) == pytest.approx(ends, abs=5e-5)
    assert wilson(counted[1] - counted[0], counted[1]) == pytest.approx((1 - ends[1], 1 - ends[0]), abs=5e-5)


@pytest.mark.parametrize(("wins", "total"), [(7, 10), (4.5, 9), (0.5, 20), (19.5, 20)])
def test_its_ends_are_as_far_from_what_was_seen_as_z_says(wins: float, total: int) -> None:
    for end in wilson(wins, total):
        assert abs(wins / total - end) == pytest.approx(Z * (end * (1 - end) / total) ** 0.5)


def test_of_nothing_one_knows_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("wins", "total"), [(-1, 3), (4, 3)])
def test_more_wins_than_comparisons_are_refused(wins: float, total: int) -> None:
    with pytest.raises(ValueError, match="wins must lie in 0 to 3"):
        wilson(wins, total)
