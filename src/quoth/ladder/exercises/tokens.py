"""Exercises on tokens."""

from quoth.ladder.checker.exercise import Exercise


def encode(text: str, alphabet: str) -> list[int]:
    """The id of each character: its place among the distinct characters of the alphabet, sorted."""
    return [sorted(set(alphabet)).index(c) for c in text]


def first_seen(text, alphabet):
    """Ids follow the order in which characters first appear; they should follow the sorted alphabet."""
    return [list(dict.fromkeys(alphabet)).index(c) for c in text]


def from_one(text, alphabet, *, of=encode):
    """Ids begin at 1; the first should be 0."""
    return [i + 1 for i in of(text, alphabet)]


def with_repeats(text, alphabet):
    """A character that appears twice in the alphabet counts twice; only distinct ones should."""
    return [sorted(alphabet).index(c) for c in text]


def split(tokens: list[int], share: float) -> tuple[list[int], list[int]]:
    """The first share of the tokens, rounded down, to train on, and the rest to judge by."""
    cut = int(share * len(tokens))
    return tokens[:cut], tokens[cut:]


def validation_first(tokens, share):
    """Validation is taken from the beginning; it should be the end."""
    cut = len(tokens) - int(share * len(tokens))
    return tokens[cut:], tokens[:cut]


def rounded_up(tokens, share):
    """The cut is rounded up; it should be rounded down."""
    cut = -int(-share * len(tokens) // 1)
    return tokens[:cut], tokens[cut:]


def overlapping(tokens, share):
    """The last training token is in both; a token to judge by must not be trained on."""
    cut = int(share * len(tokens))
    return tokens[:cut], tokens[cut - 1 :]


EXERCISES = (
    Exercise(
        encode,
        (first_seen, from_one, with_repeats),
        lambda rng: [("hello", "who held"), ("low", "hello world")],
    ),
    Exercise(
        split,
        (validation_first, rounded_up, overlapping),
        lambda rng: [(list(range(19)), 0.9), (list(range(7)), 0.5)],
    ),
)
