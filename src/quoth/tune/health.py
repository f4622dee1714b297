"""Warnings in words, made of the numbers that a policy's iterations leave: what goes wrong without anybody's notice.

Every check is a pure function of the iterations so far. The first iterations are what the later ones are compared with,
so the policy that tuning began with is its own measure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, sqrt
from statistics import fmean

# Means are taken over so many iterations, since a single one is noisy. With fewer than twice as many, nothing is told.
WINDOW = 4


@dataclass(frozen=True, kw_only=True)
class Iteration:
    """What one iteration of rollouts was like, each as a mean over its answers; NaN for what is not known.

    Attributes:
        reward: what the policy is trained for, without the KL.
        kl: the KL of whole answers to the reference, in nats.
        length: tokens of an answer.
        distinct: the share of answers that differ from all before them.
        ended: the share of answers that have an end token.
        equal: the share of groups whose rewards are all equal.
        true_reward: what the reward stands for, where that is known.
        entropy: nats of a token.
    """

    reward: float
    kl: float
    length: float
    distinct: float
    ended: float
    equal: float = float("nan")
    true_reward: float = float("nan")
    entropy: float = float("nan")


def collapsed(past: Sequence[Iteration]) -> str | None:
    """Whether the answers have become few.

    A third of the distinct answers at the beginning is the limit, and never more than 0.3: with β = 0.2 a healthy run
    kept 0.5 and more, and one that had found a single phrase had 0.03 to 0.15.
    """
    first, last = _first_and_last(past, "distinct")
    if last < min(0.3, first / 3):
        return (
            f"The policy has collapsed: {last:.0%} of its answers are distinct, where {first:.0%} were at first; give "
            "more entropy, a larger beta, or stop earlier."
        )
    return None


def hacked(past: Sequence[Iteration]) -> str | None:
    """Whether the reward rises while what it stands for falls: the true reward, or else how many answers differ.

    Both must have moved by more than twice what noise alone would move them. The distinct answers must besides have
    halved, since tuning always makes answers more alike.
    """
    if _moved(past, "reward") <= 0:
        return None
    if _moved(past, "true_reward") < 0:
        first, last = _first_and_last(past, "true_reward")
        return (
            f"The reward is being hacked: it rises while the true reward falls, from {first:.3g} to {last:.3g}; a "
            "larger beta holds the policy to where the reward can be trusted."
        )
    first, last = _first_and_last(past, "distinct")
    if _knows(past, "true_reward") or not (_moved(past, "distinct") < 0 and last < first / 2):
        return None
    return (
        f"The reward may be hacked: it rises while distinct answers fall, from {first:.0%} to {last:.0%}; read some "
        "answers, and take a larger beta if they are not what you meant."
    )


def ran_away(past: Sequence[Iteration]) -> str | None:
    """Whether the KL is so large that the policy has left the reference, which keeps it a language model.

    20 nats is the limit: policies that stayed readable had 8 to 14, and those whose text had degenerated 39 to 70. A
    long answer may have more, so it is at least a quarter of a nat for each token.
    """
    (_, kl), (_, length) = _first_and_last(past, "kl"), _first_and_last(past, "length")
    if kl > max(20.0, length / 4):
        return (
            f"The KL to the reference has run away, to {kl:.0f} nats an answer; the text degenerates from here on, so "
            "take a larger beta or a lower learning rate."
        )
    return None


def all_equal(past: Sequence[Iteration]) -> str | None:
    """Whether nearly all groups have equal rewards, 19 of 20, so that their advantages are 0 and nothing is learned."""
    _, last = _first_and_last(past, "equal")
    if last > 0.95:
        return (
            f"In {last:.0%} of the groups all rewards are equal, so nothing is learned from them; take prompts of "
            "another difficulty, larger groups, or a reward with more steps."
        )
    return None


def never_end(past: Sequence[Iteration]) -> str | None:
    """Whether most answers have no end token: fewer than half end, and fewer than did at first by a tenth or more.

    A policy that never ended its answers is told of, too: below a twentieth, whatever it was at first.
    """
    first, last = _first_and_last(past, "ended")
    if last < 0.05 or (last < 0.5 and last < first - 0.1):
        return (
            f"{last:.0%} of the answers end; the others are cut off. Reward the end (the rule `ends`), allow more "
            "tokens, or finetune on answers with their end token first."
        )
    return None


CHECKS: dict[str, Callable[[Sequence[Iteration]], str | None]] = {
    "collapsed": collapsed,
    "hacked": hacked,
    "ran_away": ran_away,
    "all_equal": all_equal,
    "never_end": never_end,
}


def warnings(past: Sequence[Iteration]) -> dict[str, str]:
    """All that is wrong after the last iteration, by the check's name, in whole sentences.

    >>> healthy = Iteration(reward=1.0, kl=1.0, length=20.0, distinct=1.0, ended=1.0)
    >>> warnings([healthy] * 8)
    {}
    """
    if len(past) < 2 * WINDOW:
        return {}
    return {name: said for name, check in CHECKS.items() if (said := check(past))}


class Watch:
    """Collects iterations and tells each warning once.

    `seen` is what a resumed run must be given again: the iterations so far.
    """

    def __init__(self, seen: Sequence[Iteration] = ()) -> None:
        self.seen: list[Iteration] = []
        self._told: set[str] = set()
        for iteration in seen:
            self.add(iteration)

    def add(self, iteration: Iteration) -> list[str]:
        """Add an iteration; the warnings that were not told before."""
        self.seen.append(iteration)
        told = {name: said for name, said in warnings(self.seen).items() if name not in self._told}
        self._told |= told.keys()
        return list(told.values())


def _known(past: Sequence[Iteration], name: str) -> list[float]:
    values = (getattr(iteration, name) for iteration in past)
    return [value for value in values if isfinite(value)]


def _knows(past: Sequence[Iteration], name: str) -> bool:
    return len(_known(past, name)) >= 2 * WINDOW


def _first_and_last(past: Sequence[Iteration], name: str) -> tuple[float, float]:
    """The means over the first and the last iterations; NaN, which is no less and no more, where too few are known."""
    known = _known(past, name)
    return (fmean(known[:WINDOW]), fmean(known[-WINDOW:])) if _knows(past, name) else (float("nan"),) * 2


def _moved(past: Sequence[Iteration], name: str) -> int:
    """1 if a number rose from the first iterations to the last, −1 if it fell, 0 if it did neither for certain.

    The scatter is estimated from neighbours, whose differences a slow trend hardly touches.
    """
    if not _knows(past, name):
        return 0
    known, (first, last) = _known(past, name), _first_and_last(past, name)
    steps = [b - a for a, b in pairwise(known)]
    # A difference of neighbours varies √2 times as much as one value, and a difference of means of 4 by 1/√2 of one.
    scatter = sqrt(fmean(step**2 for step in steps) / 4)
    return (last - first > 2 * scatter) - (first - last > 2 * scatter)
