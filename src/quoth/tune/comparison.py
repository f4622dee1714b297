"""Comparisons that a person makes of a model's answers: which comes next, on which sides, and what they tell.

All of it follows from a seed and from the decisions so far, so a program that reads the decisions goes on where they
end.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from quoth.tune.conversation import Messages
from quoth.tune.wilson import wilson

Side = Literal["left", "right"]
Choice = Literal["left", "right", "tie", "skip"]
CHOICES: tuple[Choice, ...] = ("left", "right", "tie", "skip")
# Of so many pairs one is shown again, when at least so many other decisions have been made.
REPEAT_EVERY, REPEAT_AFTER = 10, 8


@dataclass(frozen=True)
class Comparison:
    """Two answers to a prompt as a person sees them.

    Attributes:
        number: its place among all comparisons, counted from 0.
        pair: which pair of answers it is, counted from 0; a pair that is shown again keeps its number.
        prompt: the messages before the answers.
        answers: the texts, in the order in which they were written; of two runs, the first is the answer of the run
            that is compared, and the second that of the other one.
        ended: for each answer, whether the model ended it, or it was cut off.
        first_on: the side on which the first answer stands.
        repeat: whether the pair is shown again.
    """

    number: int
    pair: int
    prompt: Messages
    answers: tuple[str, str]
    ended: tuple[bool, bool]
    first_on: Side
    repeat: bool = False

    @property
    def order(self) -> tuple[int, int]:
        """Which answers stand on the left and on the right."""
        return (0, 1) if self.first_on == "left" else (1, 0)


@dataclass(frozen=True)
class Decision:
    """What a person said of a comparison, and how many seconds it took."""

    comparison: Comparison
    choice: Choice
    seconds: float

    @property
    def preferred(self) -> int | None:
        """Which answer was chosen; None for a tie and for a comparison that was skipped."""
        if self.choice in ("tie", "skip"):
            return None
        return self.comparison.order[("left", "right").index(self.choice)]

    @property
    def judged(self) -> bool:
        """Whether it is a judgement, which a comparison that was skipped has not got."""
        return self.choice != "skip"

    @property
    def teaches(self) -> bool:
        """Whether a model can learn from it: one answer is preferred to another text, and it is not empty."""
        texts, preferred = self.comparison.answers, self.preferred
        return preferred is not None and texts[0] != texts[1] and all(text.strip() for text in texts)


def side(seed: int, number: int) -> Side:
    """The side of the first answer in a comparison, as good as the throw of a coin.

    >>> [side(1, number) for number in range(4)]
    ['right', 'left', 'right', 'right']
    """
    return random.Random(f"{seed}/side/{number}").choice(("left", "right"))


def next_pair(decisions: Sequence[Decision]) -> int:
    """The number of the first pair that has not been decided on yet; pairs that were left out count as decided on."""
    return 1 + max((one.comparison.pair for one in decisions), default=-1)


def next_number(decisions: Sequence[Decision]) -> int:
    """The number of the comparison that comes next."""
    return 1 + decisions[-1].comparison.number if decisions else 0


def new_pairs(decisions: Sequence[Decision]) -> int:
    """How many pairs were decided on, skipped ones included, each counted once."""
    return sum(not one.comparison.repeat for one in decisions)


def repeat(decisions: Sequence[Decision], seed: int) -> Comparison | None:
    """The pair that is to be shown again now, with sides drawn anew; None if a new one is to be shown.

    In each ten new pairs the place of one repeat is drawn. The pair is one that was judged, at least eight decisions
    ago, and has not been shown again before.
    """
    number, shown = next_number(decisions), new_pairs(decisions)
    places = (at + random.Random(f"{seed}/place/{at}").randint(1, REPEAT_EVERY) for at in range(0, shown, REPEAT_EVERY))
    if sum(place <= shown for place in places) <= len(decisions) - shown:
        return None
    again = {one.comparison.pair for one in decisions if one.comparison.repeat}
    old = [one.comparison for one in decisions[:-REPEAT_AFTER] if one.judged and not one.comparison.repeat]
    if not (fit := [one for one in old if one.pair not in again]):
        return None
    chosen = random.Random(f"{seed}/repeat/{number}").choice(fit)
    return replace(chosen, number=number, first_on=side(seed, number), repeat=True)


@dataclass(frozen=True)
class Agreement:
    """How often a person said the same of a pair that was shown twice: the same answer, or a tie both times."""

    same: int
    total: int


@dataclass(frozen=True)
class Tally:
    """What a person has decided so far.

    Attributes:
        pairs: how many pairs were decided on, each counted once.
        preferred: in how many of them one answer was preferred; of the others, `ties` and `skips`.
        left: the share of preferred answers, in repeats too, that stood on the left; None if there are none.
        seconds: the median of the time that a judgement took; None if there is none.
        agreement: of the pairs that were shown again.
    """

    pairs: int
    preferred: int
    ties: int
    skips: int
    left: float | None
    seconds: float | None
    agreement: Agreement


def tally(decisions: Sequence[Decision]) -> Tally:
    """Count what a person has decided."""
    first = [one for one in decisions if not one.comparison.repeat]
    sides = [one.choice for one in decisions if one.preferred is not None]
    seconds = sorted(one.seconds for one in decisions if one.judged)
    choices = [one.choice for one in first]
    ties, skips = choices.count("tie"), choices.count("skip")
    return Tally(
        pairs=len(first),
        preferred=len(first) - ties - skips,
        ties=ties,
        skips=skips,
        left=sides.count("left") / len(sides) if sides else None,
        seconds=seconds[len(seconds) // 2] if seconds else None,
        agreement=self_agreement(decisions),
    )


def self_agreement(decisions: Sequence[Decision]) -> Agreement:
    """How often the second judgement of a pair was the first one; what was skipped either time does not count."""
    said = {one.comparison.pair: one for one in decisions if not one.comparison.repeat}
    repeats = [one for one in decisions if one.comparison.repeat]
    twice = [(said[one.comparison.pair], one) for one in repeats if one.comparison.pair in said]
    judged = [(one, other) for one, other in twice if one.judged and other.judged]
    return Agreement(sum(one.preferred == other.preferred for one, other in judged), len(judged))


@dataclass(frozen=True)
class Score:
    """How one run does against another, over the pairs that were judged, each counted once.

    Attributes:
        wins: how often the run's answer was preferred.
        ties: how often neither was.
        losses: how often the other run's answer was preferred.
    """

    wins: int
    ties: int
    losses: int

    @property
    def total(self) -> int:
        """The number of judged pairs."""
        return self.wins + self.ties + self.losses

    @property
    def rate(self) -> float | None:
        """The share of pairs that were won, a tie being half a win; None if no pair was judged."""
        return (self.wins + self.ties / 2) / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the rate, by Wilson's method."""
        return wilson(self.wins + self.ties / 2, self.total)


def score(decisions: Sequence[Decision]) -> Score:
    """The score of the run that wrote the first answers against the one that wrote the second."""
    judged = [one.preferred for one in decisions if one.judged and not one.comparison.repeat]
    return Score(judged.count(0), judged.count(None), judged.count(1))
