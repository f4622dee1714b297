"""Prompts and answers in batches, of pairs or of single answers, each seen once an epoch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quoth.system.errors import Interrupted
from quoth.system.world import World
from quoth.text.batches import Batch, shares, shuffled_places
from quoth.text.packing import padded

# Rows are filled up to a multiple of this, so that there are few shapes.
MULTIPLE = 16
# How many rows are measured at once.
MEASURED = 64
# A prompt's ids, and those of an answer to it.
Row = tuple[Sequence[int], Sequence[int]]


class AnswerBatches(ABC):
    """Items in batches, each seen once an epoch; `batches[step]` depends on the seed, the step and the rank alone.

    Args:
        items: the number of items.
        rows: the number of rows that an item takes.
        longest: how many tokens the longest row has, its prompt included.
        batch: the number of items in a microbatch.
        context: the model's context.
    """

    def __init__(
        self,
        items: int,
        *,
        rows: int,
        longest: int,
        batch: int,
        context: int,
        seed: int,
        accumulate: int = 1,
        world: World | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.items, self.rows, self.batch, self.accumulate, self.seed = items, rows, batch, accumulate, seed
        self.world, self.device = world or World(), device
        self.microbatch, self.share = shares(batch, accumulate, self.world.size)
        # A scorer reads one token more than a row holds.
        self.length = max(longest - 1, min(context - 1, -(-longest // MULTIPLE) * MULTIPLE))

    @property
    def per_epoch(self) -> float:
        """How many steps see each item once."""
        return self.items / (self.batch * self.accumulate)

    @property
    def tokens_per_step(self) -> int:
        """The number of tokens in a step's rows, of all ranks together, filled up to one length."""
        return self.rows * self.batch * self.accumulate * self.length

    def __getitem__(self, step: int) -> list[Batch]:
        first = step * self.batch * self.accumulate + self.world.rank * self.share
        order = shuffled_places(np.arange(first, first + self.share), self.items, self.seed)
        parts = (order[at : at + self.microbatch] for at in range(0, self.share, self.microbatch))
        return [self.of(part).to(self.device) for part in parts]

    @abstractmethod
    def of(self, numbers: NDArray[np.int64]) -> Batch:
        """The batch of the items with these numbers."""


@torch.no_grad()
def measured(
    measure: Callable[[nn.Module, Batch], Tensor],
    model: nn.Module,
    rows: Sequence[Row],
    go_on: Callable[[], bool] = lambda: True,
) -> Tensor:
    """What `measure` says of each answer under a model: (N,), on the CPU.

    >>> measured(answer_log_probs, model, [([1, 2], [3, 4])]).shape              # doctest: +SKIP
    torch.Size([1])

    Raises:
        Interrupted: `go_on`, which is called before each batch, returned false.
    """
    model.eval()
    device, parts = next(model.parameters()).device, []
    for at in range(0, len(rows), MEASURED):
        if not go_on():
            raise Interrupted
        parts.append(measure(model, padded(rows[at : at + MEASURED]).to(device)).float().cpu())
    return torch.cat(parts)
