"""A reward model: scores learned from comparisons, by the model of Bradley and Terry (1952)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from quoth.ladder.enumerated import ANSWERS, PROMPTS, REWARD_PN, STRENGTH_PN, Scorer, comparisons, minimize
from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Table
from quoth.train.preferences import bradley_terry

APART = (1.0, -1.0, -10.0, -100.0, -1000.0)


def learned() -> Tensor:
    """The scores that make all comparisons likeliest, found by gradient: (P, N)."""
    scorer, pairs = Scorer(), comparisons()

    def loss() -> Tensor:
        value = bradley_terry(scorer, pairs)
        return value[0] if isinstance(value, tuple) else value

    minimize(scorer, loss)
    return scorer.score_PN.detach()


def naive(difference: Tensor) -> Tensor:
    """The loss of a pair as the formula is written, −log σ(difference), which overflows."""
    return -difference.sigmoid().log()


def explain(lesson: Lesson) -> Iterator[Part]:
    """Comparisons, the scores learned from them, and the loss of a pair in two ways."""
    first, second, *_ = STRENGTH_PN[0].tolist()
    yield Say(
        "People find it hard to give an answer a mark, and easy to say which of two they like better. Bradley and "
        "Terry say how marks make choices: an answer wins with probability σ(its score − the other's score). Here "
        f"{ANSWERS[0]!r} wins {first} of {first + second} comparisons with {ANSWERS[1]!r} as an answer to "
        f"{PROMPTS[0]!r}, which is a difference of scores of ln {first} − ln {second}."
    )
    score_PN = learned()
    table = [
        (prompt, answer, float(REWARD_PN[p, n]), float(score_PN[p, n]), float(score_PN[p, n] - REWARD_PN[p, n]))
        for p, prompt in enumerate(PROMPTS)
        for n, answer in enumerate(ANSWERS)
    ]
    columns = ["prompt", "answer", "ln strength", "score learned", "difference"]
    yield Table("Scores that were learned from the comparisons alone", columns, table)
    yield Say(
        "The scores are right up to a number for each prompt, about which comparisons say nothing. So a score means "
        "nothing by itself: only answers to the same prompt can be compared by it."
    )
    difference = torch.tensor(APART)
    losses = [(f"{d:g}", f"{n:g}", f"{s:g}") for d, n, s in zip(
        APART, naive(difference).tolist(), (-F.logsigmoid(difference)).tolist(), strict=True
    )]  # fmt: skip
    yield Table("The loss of a pair in float32", ["chosen − rejected", "log of sigmoid", "logsigmoid"], losses)
    yield Say(
        "In float32 the sigmoid of −100 is 0, and the logarithm of 0 is −∞: the loss is infinite just where a pair has "
        "most to teach. `logsigmoid` computes both at once."
    )
