"""Exercises on the text itself."""

from collections import Counter
from math import log

from quoth.ladder.checker.exercise import Exercise


def alphabet(text: str) -> str:
    """The distinct characters of the text, sorted, as one string."""
    return "".join(sorted(set(text)))


def unsorted(text):
    """The characters are in the order of their first use; they should be sorted."""
    return "".join(dict.fromkeys(text))


def letters_only(text, *, of=alphabet):
    """Spaces and punctuation are characters too."""
    return "".join(c for c in of(text) if c.isalpha())


def lower_case(text, *, of=alphabet):
    """Capitals are characters of their own."""
    return of(text.lower())


def frequency_loss(text: str) -> float:
    """The loss in nats per character of a guess that knows how often each character is used in the text, no more."""
    return -sum(n / len(text) * log(n / len(text)) for n in Counter(text).values())


def in_bits(text, *, of=frequency_loss):
    """That is in bits; nats are measured with the natural logarithm."""
    return of(text) / log(2)


def not_weighted(text):
    """Each character's surprise counts as often as the character is used, not once."""
    counts = Counter(text).values()
    return -sum(log(n / len(text)) for n in counts) / len(counts)


def even(text):
    """That is the loss of a guess that does not even know the frequencies."""
    return log(len(set(text)))


EXERCISES = (
    Exercise(alphabet, (unsorted, letters_only, lower_case), lambda rng: [("Hello, who?",), ("to be or Not",)]),
    Exercise(frequency_loss, (in_bits, not_weighted, even), lambda rng: [("hello",), ("mississippi",)]),
)
