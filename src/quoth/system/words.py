"""Numbers as a person says them."""

from __future__ import annotations


def count(number: float) -> str:
    """A large number, shortened.

    >>> count(1_803_000), count(950)
    ('1.8M', '950')
    """
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.1f}{unit}"
    return f"{number:.0f}"
