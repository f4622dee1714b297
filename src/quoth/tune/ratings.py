"""Single answers, each of which somebody found good or bad, in batches, with answers to other prompts beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quoth.model.gpt import GPT
from quoth.system.errors import InputError
from quoth.text.batches import Batch
from quoth.text.packing import padded
from quoth.train.preferences import answer_log_probs, baseline, kto_losses, right_signs
from quoth.tune.answer_batches import AnswerBatches, Row, measured


@dataclass(frozen=True)
class Rating:
    """The ids of a prompt and of an answer to it, with its end token, and whether somebody found the answer good."""

    prompt: Sequence[int]
    answer: Sequence[int]
    good: bool

    @property
    def row(self) -> Row:
        """The prompt and the answer."""
        return self.prompt, self.answer

    @property
    def longest(self) -> int:
        """How many tokens the prompt and the answer have together."""
        return len(self.prompt) + len(self.answer)


def mismatched(ratings: Sequence[Rating]) -> list[Row]:
    """Each rating's prompt with an answer to another prompt, of which KTO estimates its baseline.

    Each answer is used once, and cut so that no row is longer than the longest rating. The ratings are put in the order
    of their prompts and shifted by as many as the most frequent prompt has, which leaves no prompt its own answer
    unless it has more than half of them.

    >>> mismatched([Rating([1], [5], True), Rating([1], [6], False), Rating([2], [7], True), Rating([2], [8], True)])
    [([1], [7]), ([1], [8]), ([2], [5]), ([2], [6])]

    Raises:
        InputError: all ratings have the same prompt.
    """
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for number, one in enumerate(ratings):
        by_prompt.setdefault(tuple(one.prompt), []).append(number)
    if len(by_prompt) < 2:
        raise InputError("KTO compares answers with those to other prompts, so it needs two prompts.")
    order = [number for numbers in by_prompt.values() for number in numbers]
    shift = max(map(len, by_prompt.values()))
    other = dict(zip(order, [*order[shift:], *order[:shift]], strict=True))
    return _beside(ratings, [ratings[other[number]].answer for number in range(len(ratings))])


def _beside(ratings: Sequence[Rating], answers: Sequence[Sequence[int]]) -> list[Row]:
    """The ratings' prompts with other answers, each cut where the longest rating would end."""
    longest = max(one.longest for one in ratings)
    pairs = zip(ratings, answers, strict=True)
    return [(one.prompt, answer[: longest - len(one.prompt)]) for one, answer in pairs]


class RatedBatches(AnswerBatches):
    """Rated answers in batches: the answers' rows, and after them as many whose answers are to other prompts.

    What counts is the answers. `reference_B`, `desirable_B` and `mismatched_B` are those that `kto` wants; the
    reference is the model as it is when the batches are made.

    >>> RatedBatches(ratings, model, batch=4, context=64, seed=1)[0][0].x_BT.shape[0]     # doctest: +SKIP
    8

    Args:
        ratings: none is longer than the model's context.
        model: the model before tuning.
        how: `batch`, `context`, `seed` and what else `AnswerBatches` takes.
    """

    def __init__(self, ratings: Sequence[Rating], model: GPT, **how: Any) -> None:
        self.ratings = ratings
        own, other = [one.row for one in ratings], mismatched(ratings)
        super().__init__(len(ratings), rows=2, longest=max(one.longest for one in ratings), **how)
        self.row_N2 = list(zip(own, other, strict=True))
        self.good_N = torch.tensor([one.good for one in ratings])
        self.reference_N2 = torch.stack([measured(answer_log_probs, model, rows) for rows in (own, other)], 1)

    def of(self, numbers: NDArray[np.int64]) -> Batch:
        index, chosen = torch.from_numpy(numbers), [self.row_N2[n] for n in numbers.tolist()]
        good_B, false_B = self.good_N[index], torch.zeros(len(chosen), dtype=torch.bool)
        more = {
            "reference_B": self.reference_N2[index].T.flatten(),
            "desirable_B": torch.cat([good_B, false_B]),
            "mismatched_B": torch.cat([false_B, ~false_B]),
        }
        rows = [own for own, _ in chosen] + [other for _, other in chosen]
        return replace(padded(rows, self.length), more=more, units=float(len(chosen)))


class HeldRatings:
    """Held-out ratings, and the log-probabilities of their answers under a model before tuning.

    Their baseline is estimated from their prompts with answers that are learned from, never to the same prompt; and
    where nothing is learned, with each other's answers.
    """

    def __init__(self, ratings: Sequence[Rating], learned: Sequence[Rating], model: GPT) -> None:
        self.good_N = torch.tensor([one.good for one in ratings])
        if learned:
            others = _beside(ratings, [learned[n % len(learned)].answer for n in range(len(ratings))])
        else:
            others = mismatched(ratings)
        self.rows = [*(one.row for one in ratings), *others]
        self.before_N = measured(answer_log_probs, model, self.rows)

    def judge(
        self, model: GPT, beta: float, desirable: float, undesirable: float, go_on: Callable[[], bool]
    ) -> dict[str, float]:
        """The mean `loss` of `kto`; the `kl` that it subtracts; and `accuracy`, the share of right signs of rewards.

        A reward is β (log π − log π_ref); of a good answer it should be above 0, of a bad one below.

        Raises:
            Interrupted: `go_on`, which is called before each batch, returned false.
        """
        ratio_N = measured(answer_log_probs, model, self.rows, go_on) - self.before_N
        own_N, other_N = ratio_N[: len(self.good_N)], ratio_N[len(self.good_N) :]
        kl = baseline(other_N)
        loss_N, _ = kto_losses(own_N, self.good_N, kl, beta, desirable, undesirable)
        right_N = right_signs(own_N, self.good_N)
        return {"loss": loss_N.mean().item(), "accuracy": right_N.mean().item(), "kl": kl.item()}
