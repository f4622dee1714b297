"""Numbers as a person says them."""

from __future__ import annotations

import pytest

from quoth.system.words import count, duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.42, "0.4 s"), (59.7, "1 min"), (178, "2 min 58 s"), (3600, "1 h"), (3721, "1 h 2 min"), (90_061, "1 d 1 h")],
)
def test_durations_read_well(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (950, "950"),
        (999.97, "1.0k"),
        (1000, "1.0k"),
        (999_960, "1.0M"),
        (1_803_000, "1.8M"),
        (7e9, "7.0B"),
        (15.6e12, "15.6T"),
    ],
)
def test_count(number: float, words: str) -> None:
    assert count(number) == words
