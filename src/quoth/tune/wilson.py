"""How sure one may be of a share that was counted, such as that of won comparisons."""

from __future__ import annotations

from math import sqrt

# The quantile of the normal distribution that leaves 2.5% on each side.
Z = 1.959963984540054


def wilson(wins: float, total: int) -> tuple[float, float]:
    """The 95% interval of a share, of which `wins` of `total` were seen; a tie counts as half a win.

    It is the interval of Wilson 1927 ("Probable inference, the law of succession, and statistical inference"), which
    lies within [0, 1] and holds for few comparisons and for shares near 0 and 1 too. Of no comparisons it is all of
    [0, 1].

    >>> low, high = wilson(8, 10)
    >>> f"{low:.3f} to {high:.3f}"
    '0.490 to 0.943'

    Raises:
        ValueError: `wins` is not within 0 and `total`.
    """
    if not 0 <= wins <= total:
        raise ValueError(f"wins must lie in 0 to {total}, not {wins}.")
    if not total:
        return 0.0, 1.0
    share, square = wins / total, Z * Z / total
    middle, half = share + square / 2, Z * sqrt(share * (1 - share) / total + square / total / 4)
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))
