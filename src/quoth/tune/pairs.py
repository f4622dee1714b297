"""Pairs of answers to the same prompt, of which people preferred one, in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quoth.system.errors import InputError
from quoth.text.batches import Batch
from quoth.text.packing import padded
from quoth.tune.answer_batches import AnswerBatches, Row, measured


@dataclass(frozen=True)
class Pair:
    """The ids of a prompt and of two answers to it, each with its end token; people preferred `chosen`."""

    prompt: Sequence[int]
    chosen: Sequence[int]
    rejected: Sequence[int]

    @property
    def longest(self) -> int:
        """How many tokens the longer of its two texts has."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


def pair_batch(pairs: Sequence[Pair], length: int = 0) -> Batch:
    """Rows that alternate chosen and rejected answers; what counts is the pairs.

    >>> batch = pair_batch([Pair([1], [2, 3], [4, 3])])
    >>> batch.count, batch.y_BT
    (1.0, tensor([[2, 3],
            [4, 3]]))
    """
    return replace(padded(_rows(pairs), length), units=float(len(pairs)))


class PairBatches(AnswerBatches):
    """Pairs in batches.

    Args:
        pairs: none is longer than the model's context.
        reference_N2: the log-probabilities of each pair's answers under the model before tuning, if the objective
            needs them; see `each_answer`.
        how: `batch`, `context`, `seed` and what else `AnswerBatches` takes.
    """

    def __init__(self, pairs: Sequence[Pair], *, reference_N2: Tensor | None = None, **how: Any) -> None:
        if not pairs:
            raise InputError("There are no pairs to learn from.")
        self.pairs, self.reference_N2 = pairs, reference_N2
        super().__init__(len(pairs), rows=2, longest=max(one.longest for one in pairs), **how)

    def of(self, numbers: NDArray[np.int64]) -> Batch:
        batch = pair_batch([self.pairs[n] for n in numbers.tolist()], self.length)
        if self.reference_N2 is None:
            return batch
        return replace(batch, more={"reference_B": self.reference_N2[torch.from_numpy(numbers)].flatten()})


def each_answer(
    measure: Callable[[nn.Module, Batch], Tensor],
    model: nn.Module,
    pairs: Sequence[Pair],
    go_on: Callable[[], bool] = lambda: True,
) -> Tensor:
    """What `measure` says of each pair's chosen and rejected answer under a model: (N, 2), on the CPU.

    >>> each_answer(answer_log_probs, model, pairs).shape == (len(pairs), 2)     # doctest: +SKIP
    True

    Raises:
        Interrupted: `go_on`, which is called before each batch, returned false.
    """
    return measured(measure, model, _rows(pairs), go_on).view(-1, 2)


def _rows(pairs: Sequence[Pair]) -> list[Row]:
    return [(one.prompt, answer) for one in pairs for answer in (one.chosen, one.rejected)]


@dataclass(frozen=True)
class Agreement:
    """How well scores of answers agree with what people preferred.

    Attributes:
        loss: the mean of −log σ(score of chosen − score of rejected), in nats.
        accuracy: the share of pairs whose preferred answer has the higher score.
        accuracy_like_length: the same over pairs whose answers differ in length by a tenth or less, where length alone
            tells nothing; None if there are none.
        longer_preferred: the share of pairs in which the longer answer has the higher score.
        calibration_error: how far the stated probabilities are from what happened, as a mean over ten equal bins
            (Guo et al. 2017, arXiv:1706.04599); 0 is best.
        mean, deviation: of all the scores.
    """

    loss: float
    accuracy: float
    accuracy_like_length: float | None
    longer_preferred: float
    calibration_error: float
    mean: float
    deviation: float


def agreement(score_N2: Tensor, pairs: Sequence[Pair]) -> Agreement:
    """The agreement of the scores of each pair's chosen and rejected answer, (N, 2), with the pairs."""
    margin_N = (score_N2[:, 0] - score_N2[:, 1]).double()
    lengths = torch.tensor([[len(one.chosen), len(one.rejected)] for one in pairs]).double()
    difference_N = lengths[:, 0] - lengths[:, 1]
    like_N = difference_N.abs() <= 0.1 * lengths.amax(1)
    unequal_N = difference_N != 0
    right_N = (margin_N > 0).double() + 0.5 * (margin_N == 0).double()
    longer_N = ((margin_N > 0) == (difference_N > 0)).double()[unequal_N]
    return Agreement(
        loss=-torch.nn.functional.logsigmoid(margin_N).mean().item(),
        accuracy=right_N.mean().item(),
        accuracy_like_length=right_N[like_N].mean().item() if like_N.any() else None,
        longer_preferred=longer_N.mean().item() if len(longer_N) else 0.5,
        calibration_error=_calibration_error(margin_N),
        mean=score_N2.mean().item(),
        deviation=score_N2.std().item(),
    )


def _calibration_error(margin_N: Tensor, bins: int = 10) -> float:
    """Each pair counts as it is and turned around, so that the bins cover all probabilities."""
    probability = torch.cat([margin_N.sigmoid(), (-margin_N).sigmoid()])
    happened = torch.cat([torch.ones_like(margin_N), torch.zeros_like(margin_N)])
    place = (probability * bins).long().clamp_max(bins - 1)
    error = torch.tensor(0.0, dtype=torch.float64)
    for number in range(bins):
        if (inside := place == number).any():
            error += (probability[inside].mean() - happened[inside].mean()).abs() * inside.double().mean()
    return error.item()
