"""Guesses at what comes next, from what was there before: speculative decoding without a second model."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST = 4


def guess(tokens: Sequence[int], most: int) -> list[int]:
    """What followed the last time that the text ended as it ends now, up to `most` tokens.

    The longest ending of up to four tokens that was there before decides, the latest place of several. Where what
    followed runs into the ending itself, it is taken to go round.

    >>> guess([1, 2, 3, 9, 1, 2], 3), guess([5, 5], 3)
    ([3, 9, 1], [5, 5, 5])
    """
    for n in range(min(LONGEST, len(tokens) - 1), 0, -1):
        ending = list(tokens[-n:])
        for at in range(len(tokens) - n - 1, -1, -1):
            if tokens[at] == ending[0] and list(tokens[at : at + n]) == ending:
                follow = list(tokens[at + n :])
                return [follow[i % len(follow)] for i in range(most)]
    return []
