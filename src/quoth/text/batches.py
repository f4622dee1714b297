"""Batches as a pure function of (seed, step, rank), so that any step can be repeated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quoth.system.errors import InputError
from quoth.system.world import World

# The target that PyTorch's cross_entropy ignores.
IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """Token ids x (B, T), the targets y (B, T) that follow them, and what else an objective needs.

    A target that is IGNORED does not count, whatever its weight.

    Attributes:
        weight_BT: how much each target counts; 1 for all if left out.
        seed: seeds dropout, so that a step's randomness can be repeated too.
        segment_BT: the number of the text that each token belongs to, where a row holds several texts one after the
            other; a token sees only its own text, and places begin anew in each.
        more: tensors that an objective needs beside these, by name; their first axis is the rows'.
        units: what the loss is a mean over if not targets, such as pairs of answers.
    """

    x_BT: Tensor
    y_BT: Tensor
    weight_BT: Tensor | None = None
    seed: int | None = None
    segment_BT: Tensor | None = None
    more: Mapping[str, Tensor] = field(default_factory=dict)
    units: float | None = None

    @property
    def count(self) -> float:
        """What the loss is a mean over: the units if there are any, else the targets' weights."""
        if self.units is not None:
            return self.units
        counts_BT = self.y_BT != IGNORED
        return float(counts_BT.sum() if self.weight_BT is None else (self.weight_BT * counts_BT).sum())

    def rows(self, keep_B: Tensor) -> Batch:
        """The rows that `keep_B` names, by truth values or by numbers; `units` stay as they are."""
        kept: dict[str, Any] = {name: t[keep_B] for name, t in vars(self).items() if isinstance(t, Tensor)}
        return replace(self, **kept, more={name: t[keep_B] for name, t in self.more.items()})

    def to(self, device: torch.device | str) -> Batch:
        def moved(named: Mapping[str, Any]) -> dict[str, Any]:
            return {n: t.to(device, non_blocking=True) for n, t in named.items() if isinstance(t, Tensor)}

        return replace(self, **moved(vars(self)), more=moved(self.more))


class BatchSource(Protocol):
    """Anything that gives the list of a step's microbatches as `source[step]`."""

    def __getitem__(self, step: int) -> list[Batch]: ...


@dataclass(frozen=True)
class Later:
    """A source that begins `dropped` batches later, with which a run continues after batches that did harm."""

    source: BatchSource
    dropped: int

    def __getitem__(self, step: int) -> list[Batch]:
        return self.source[step + self.dropped]


class Windows:
    """Shuffled windows of a token array, each seen once an epoch; every epoch cuts the array at another offset.

    A step takes the next `batch · accumulate` windows of one global order, and `windows[step]` is this rank's share of
    them, as microbatches. A step's windows do not depend on the number of ranks: the ranks share its microbatches, or
    smaller microbatches if there are too few.

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
        self.microbatch, self.share = shares(batch, accumulate, self.world.size)
        self.per_epoch = max(1, len(tokens) // context - 1)
        self._offsets = len(tokens) - context * self.per_epoch

    @property
    def tokens_per_step(self) -> int:
        """The number of targets in one step of all ranks together."""
        return self.batch * self.accumulate * self.context

    def __getitem__(self, step: int) -> list[Batch]:
        first = step * self.batch * self.accumulate + self.world.rank * self.share
        starts = self.starts(np.arange(first, first + self.share))
        index = starts[:, None] + np.arange(self.context + 1)
        window = torch.from_numpy(self.tokens[index].astype(np.int64))
        parts = enumerate(torch.split(window, self.microbatch))
        return [self._batch(part, first + number * self.microbatch) for number, part in parts]

    def _batch(self, window: Tensor, place: int) -> Batch:
        seed = seed_of(self.seed, place)
        return Batch(window[:, :-1].contiguous(), window[:, 1:].contiguous(), seed=seed).to(self.device)

    def starts(self, place: NDArray[np.int64]) -> NDArray[np.int64]:
        """The index of the first token of each window at these places of the global order."""
        epochs, within = np.divmod(place, self.per_epoch)
        start = np.empty_like(place)
        for epoch in np.unique(epochs):
            rng = np.random.Generator(np.random.Philox(key=np.array([self.seed % 2**64, epoch], np.uint64)))
            offset = int(rng.integers(self._offsets))
            keys = rng.integers(2**63, size=4, dtype=np.uint64)
            mine = epochs == epoch
            start[mine] = offset + self.context * shuffled(within[mine], self.per_epoch, keys)
        return start


def seed_of(seed: int, place: int) -> int:
    """The seed of the dropout of a batch whose first row has this place in the global order."""
    return int(np.random.SeedSequence((seed % 2**64, place)).generate_state(1, np.uint64)[0])


def shuffled_places(place: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """Which of `size` items stands at each place of an endless order; every epoch shuffles the items anew.

    >>> sorted(shuffled_places(np.arange(5), 5, seed=1).tolist())
    [0, 1, 2, 3, 4]
    """
    epochs, within = np.divmod(place, size)
    index = np.empty_like(place)
    for epoch in np.unique(epochs):
        rng = np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, epoch], np.uint64)))
        mine = epochs == epoch
        index[mine] = shuffled(within[mine], size, rng.integers(2**63, size=4, dtype=np.uint64))
    return index


def shares(batch: int, accumulate: int, size: int) -> tuple[int, int]:
    """The number of windows in a microbatch, and the number that each of `size` ranks takes in a step.

    >>> shares(32, 1, 2), shares(8, 4, 2), shares(8, 2, 4)
    ((16, 16), (8, 16), (4, 4))

    Raises:
        InputError: the ranks cannot share a step's windows evenly.
    """
    whole, fewest = batch * accumulate, size * -(-accumulate // size)
    counts = (n for n in range(fewest, whole + 1, size) if whole % n == 0)
    if (count := next(counts, None)) is None:
        raise InputError(
            f"A step has {whole} windows (batch times accumulate), which {size} processes cannot share evenly; take "
            f"--batch {size * max(1, round(batch / size))}, or another number of processes."
        )
    return whole // count, whole // size


def shuffled(index: NDArray[np.int64], size: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The values at `index` of a random permutation of range(size), which is never stored as a whole.

    A Feistel network permutes range(n) for the next power of four n; a value outside range(size) is permuted again
    until it lies inside (Black & Rogaway 2002, "Ciphers with arbitrary finite domains").
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    x = index.astype(np.uint64)
    todo = np.ones(len(x), dtype=bool)
    while todo.any():
        left, right = x[todo] >> half, x[todo] & mask
        for key in keys:
            # The round function is the finaliser of splitmix64.
            mixed = (right ^ key) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0x94D049BB133111EB)
            left, right = right, left ^ ((mixed >> np.uint64(32)) & mask)
        x[todo] = (left << half) | right
        todo = x >= np.uint64(size)
    return x.astype(np.int64)
