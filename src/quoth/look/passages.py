"""Where a training text has the same tokens as another text up to some place: what was, or could be, memorised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quoth.system.errors import Interrupted

# How many tokens are searched at once, which bounds the memory that their places take.
BLOCK = 2**24


@dataclass(frozen=True)
class Passages:
    """Where a text's last tokens stand in a training text.

    Attributes:
        counts: how often its last token stands there, its last two, and so on; each at least once.
        ends: where the longest of these stand in it: the places after their ends, the first ones.
    """

    counts: list[int]
    ends: list[int]

    @property
    def length(self) -> int:
        """How many of the text's last tokens stand in the training text; 0 if not even the last one does."""
        return len(self.counts)


def passages(
    train_N: NDArray[Any],
    token_T: NDArray[Any],
    *,
    longest: int = 256,
    most: int = 3,
    go_on: Callable[[], bool] = lambda: True,
) -> Passages:
    """The longest passages of a training text that end as another text does, at most `longest` tokens long.

    Args:
        train_N: the training text's tokens, which may be memory-mapped.
        token_T: the text's tokens, at least one.
        most: how many places are told.

    >>> passages(np.array([1, 2, 3, 1, 2, 4, 2]), np.array([7, 1, 2]))
    Passages(counts=[3, 2], ends=[2, 5])

    Raises:
        Interrupted: `go_on`, which is called before each block of the training text, returned false.
    """
    text = token_T[::-1][:longest]
    counts: list[int] = []
    ends: list[list[int]] = []
    for begin in range(0, len(train_N), BLOCK):
        if not go_on():
            raise Interrupted
        found = begin + np.flatnonzero(train_N[begin : begin + BLOCK] == text[0])
        length = 0
        while len(found):
            if length == len(counts):
                counts.append(0)
                ends.append([])
            counts[length] += len(found)
            ends[length] += (found[:most] + 1).tolist()
            length += 1
            if length == len(text):
                break
            # Only places that were the same so far can be the same one token further back.
            found = found[found >= length]
            found = found[train_N[found - length] == text[length]]
    return Passages(counts, ends[-1][:most] if ends else [])
