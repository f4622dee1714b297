"""Numbers and durations in words for people."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """A duration in its two largest units.

    >>> duration(597)
    '9 min 57 s'
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, large, small, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size:,} {large}" + (f" {rest} {name}" if (rest := whole % size // small) else "")
    return f"{whole} s"


def count(number: float) -> str:
    """A large number in a short form.

    >>> count(1_803_000), count(999_960), count(950)
    ('1.8M', '1.0M', '950')
    """
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= 0.99995 * limit:  # What is rounded up to a unit is said in that unit.
            return f"{number / limit:.1f}{unit}"
    return f"{number:.0f}"


def plural(count: int, noun: str) -> str:
    """A count of things: 1 line, 2,000 lines."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
