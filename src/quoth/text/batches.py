"""Batches as a pure function of (seed, step, rank): any step can be had again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quoth.system.errors import InputError
from quoth.system.world import World


@dataclass(frozen=True)
class Batch:
    """Token ids x (B, T), what follows each, y (B, T), and optionally how much each target counts."""

    x_BT: Tensor
    y_BT: Tensor
    weight_BT: Tensor | None = None

    @property
    def count(self) -> float:
        """How many targets count, or the sum of their weights."""
        return float(self.y_BT.numel() if self.weight_BT is None else self.weight_BT.sum())

    def to(self, device: torch.device | str) -> Batch:
        weight = None if self.weight_BT is None else self.weight_BT.to(device, non_blocking=True)
        return Batch(self.x_BT.to(device, non_blocking=True), self.y_BT.to(device, non_blocking=True), weight)


class Windows:
    """Shuffled windows of a token array, each seen once an epoch; every epoch cuts them at another offset.

    `windows[step]` is this rank's list of `accumulate` microbatches of `batch` windows. All ranks together take the
    next `batch · accumulate · size` windows of one global order, so the order does not depend on how many there are.

    >>> windows = Windows(np.arange(1000), batch=2, context=8, seed=1)
    >>> batch, = windows[5]
    >>> bool((batch.y_BT == batch.x_BT + 1).all()), torch.equal(batch.x_BT, windows[5][0].x_BT)
    (True, True)
    """

    def __init__(
        self,
        tokens: NDArray[np.integer],
        *,
        batch: int,
        context: int,
        seed: int,
        accumulate: int = 1,
        world: World | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if len(tokens) <= context:
            raise InputError(
                f"A window needs {context + 1} tokens (a context of {context} and what follows), but there are "
                f"{len(tokens)}; give more text or a smaller --context."
            )
        self.tokens, self.batch, self.context, self.seed = tokens, batch, context, seed
        self.accumulate, self.world, self.device = accumulate, world or World(), device
        self.per_epoch = max(1, len(tokens) // context - 1)
        self._offsets = len(tokens) - context * self.per_epoch

    @property
    def tokens_per_step(self) -> int:
        """Targets that all ranks together see in one step."""
        return self.batch * self.accumulate * self.world.size * self.context

    def __getitem__(self, step: int) -> list[Batch]:
        share = self.batch * self.accumulate
        first = (step * self.world.size + self.world.rank) * share
        starts = self.starts(np.arange(first, first + share))
        index = starts[:, None] + np.arange(self.context + 1)
        window = torch.from_numpy(self.tokens[index].astype(np.int64))
        return [
            Batch(part[:, :-1].contiguous(), part[:, 1:].contiguous()).to(self.device)
            for part in torch.split(window, self.batch)
        ]

    def starts(self, place: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the windows at these places of the global order start."""
        epochs, within = np.divmod(place, self.per_epoch)
        start = np.empty_like(place)
        for epoch in np.unique(epochs):
            rng = np.random.Generator(np.random.Philox(key=np.array([self.seed % 2**64, epoch], np.uint64)))
            offset = int(rng.integers(self._offsets))
            keys = rng.integers(2**63, size=4, dtype=np.uint64)
            mine = epochs == epoch
            start[mine] = offset + self.context * shuffled(within[mine], self.per_epoch, keys)
        return start


def shuffled(index: NDArray[np.int64], size: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """A permutation of range(size), read at `index`, without ever being written out.

    A Feistel network permutes the next power of four; what falls outside walks on until it falls inside
    (Black & Rogaway 2002, "Ciphers with arbitrary finite domains").
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    x = index.astype(np.uint64)
    todo = np.ones(len(x), dtype=bool)
    while todo.any():
        left, right = x[todo] >> half, x[todo] & mask
        for key in keys:
            # The finaliser of splitmix64, as the round function.
            mixed = (right ^ key) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0x94D049BB133111EB)
            left, right = right, left ^ ((mixed >> np.uint64(32)) & mask)
        x[todo] = (left << half) | right
        todo = x >= np.uint64(size)
    return x.astype(np.int64)
