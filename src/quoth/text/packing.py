"""Examples of different lengths, packed into rows of one length, in which each sees only itself."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quoth.system.errors import InputError
from quoth.system.world import World
from quoth.text.batches import IGNORED, Batch, Windows, seed_of, shares, shuffled_places


@dataclass(frozen=True)
class Example:
    """A text's ids and, for each, its weight as a target: 1 where it is learned and 0 where it is only read."""

    ids: Sequence[int]
    weights: Sequence[float]

    def cut(self, context: int) -> Example:
        """The example's beginning, as much as a window of `context` tokens holds with the target after it."""
        return Example(self.ids[: context + 1], self.weights[: context + 1])

    def ending(self, ends: Collection[int], weight: float) -> Example:
        """The example with another weight for its end tokens, where they are learned.

        >>> Example([7, 8, 0], [0.0, 1.0, 1.0]).ending({0}, 5.0).weights
        [0.0, 1.0, 5.0]
        """
        both = zip(self.ids, self.weights, strict=True)
        return Example(self.ids, [w * weight if token in ends else w for token, w in both])

    @property
    def learned(self) -> list[tuple[int, ...]]:
        """The stretches of ids that are learned, such as the answers in a conversation.

        >>> Example([7, 8, 0, 9, 5, 0], [0.0, 1.0, 1.0, 0.0, 1.0, 1.0]).learned
        [(8, 0), (5, 0)]
        """
        stretches = groupby(zip(self.ids, self.weights, strict=True), key=lambda one: one[1] > 0)
        return [tuple(token for token, _ in stretch) for weighs, stretch in stretches if weighs]

    @property
    def places(self) -> int:
        """How many tokens of a row it takes: all but the last, which is only a target."""
        return len(self.ids) - 1

    @property
    def targets(self) -> float:
        """The sum of the weights of what is learned; the first token is no target."""
        return float(sum(self.weights[1:]))


def pack(sizes: Sequence[int], room: int) -> list[list[int]]:
    """Indices of `sizes` in rows of at most `room` together, in few rows: the largest first, where it fits best.

    Best fit decreasing needs at most 11/9 of the fewest rows, plus 4 (Johnson 1973, "Near-optimal bin packing
    algorithms").

    >>> pack([5, 3, 4, 2], 7)
    [[0, 3], [2, 1]]
    """
    rows: list[list[int]] = []
    by_room: dict[int, list[int]] = {}  # The rows that have so much room left.
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        size = sizes[index]
        left = next((left for left in range(size, room + 1) if by_room.get(left)), None)
        if left is None:
            rows.append([])
            left, row = room, len(rows) - 1
        else:
            row = by_room[left].pop()
        rows[row].append(index)
        by_room.setdefault(left - size, []).append(row)
    return rows


def packed_row(examples: Sequence[Example], context: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, y, weights and segments, each (T,), of examples one after the other; the rest of the row does not count."""
    x_T, y_T = torch.zeros(context, dtype=torch.long), torch.full((context,), IGNORED)
    weight_T, segment_T = torch.zeros(context), torch.full((context,), len(examples))
    at = 0
    for number, one in enumerate(examples):
        place = slice(at, at := at + one.places)
        ids = torch.tensor(one.ids)
        x_T[place], y_T[place] = ids[:-1], ids[1:]
        weight_T[place], segment_T[place] = torch.tensor(one.weights[1:], dtype=torch.float32), number
    return x_T, y_T, weight_T, segment_T


def padded(pairs: Sequence[tuple[Sequence[int], Sequence[int]]], length: int = 0) -> Batch:
    """A row for each prompt and its answer, in which the answer's tokens count; filled up on the right.

    No row sees what it is filled with: attention looks back, and the weight there is 0. A `length` of 0 is the longest
    row's.

    >>> padded([([1, 2], [3, 4]), ([1], [5])]).weight_BT
    tensor([[0., 1., 1.],
            [1., 0., 0.]])
    """
    length = length or max(len(prompt) + len(answer) for prompt, answer in pairs) - 1
    x_BT, y_BT = (torch.zeros(len(pairs), length, dtype=torch.long) for _ in range(2))
    weight_BT = torch.zeros(len(pairs), length)
    for row, (prompt, answer) in enumerate(pairs):
        ids = torch.tensor([*prompt, *answer])[: length + 1]
        x_BT[row, : len(ids) - 1], y_BT[row, : len(ids) - 1] = ids[:-1], ids[1:]
        weight_BT[row, len(prompt) - 1 : len(ids) - 1] = 1
    return Batch(x_BT, y_BT, weight_BT)


class PackedRows:
    """Packed examples in batches, each seen once an epoch; and among them a share of windows of plain text.

    `rows[step]` is a pure function of the seed and the step, and of the rank, as for `Windows`.

    >>> rows = PackedRows([Example([1, 2, 3], [0, 0, 1])], batch=2, context=8, seed=1)
    >>> [batch.count for batch in rows[0]]
    [2.0]

    Args:
        examples: what is learned; each has at least one target in its first `context` tokens.
        batch: the number of rows in a microbatch.
        context: the number of tokens in a row.
        noise: the share of what is both learned and read again, such as an answer's tokens but for its end, that is
            replaced when it is read, by tokens drawn from the text of `replay`, or else from all of it (unigram
            noising, Xie et al. 2017, arXiv:1703.02573). It is learned as it was, so that a model learns to go on after
            mistakes of its own.
        replay: windows of a text, of which a step takes `replay.batch` instead of as many rows of examples. Batches
            then say which rows these are in `more["plain_B"]`, and their `units` are the examples' targets.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        batch: int,
        context: int,
        seed: int,
        accumulate: int = 1,
        noise: float = 0.0,
        replay: Windows | None = None,
        world: World | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if not examples:
            raise InputError("There are no examples to learn from.")
        cut = [one.cut(context) for one in examples]
        rows = pack([one.places for one in cut], context)
        made = (packed_row([cut[i] for i in row], context) for row in rows)
        self.x_NT, self.y_NT, self.weight_NT, self.segment_NT = map(torch.stack, zip(*made, strict=True))
        self.seed, self.replay, self.world, self.device = seed, replay, world or World(), device
        self.batch, self.accumulate, self.context = batch, accumulate, context
        self.microbatch, self.share = shares(batch, accumulate, self.world.size)
        self.targets = float(self.weight_NT.sum())
        self.noise = noise
        learned_NT = self.weight_NT > 0
        self.read_again_NT = torch.zeros_like(learned_NT)
        same_NT = self.segment_NT[:, 1:] == self.segment_NT[:, :-1]
        self.read_again_NT[:, 1:] = learned_NT[:, 1:] & learned_NT[:, :-1] & same_NT

    @property
    def per_epoch(self) -> float:
        """How many steps see each example once."""
        return len(self.x_NT) / (self.batch * self.accumulate - (self.replay.batch if self.replay else 0))

    @property
    def tokens_per_step(self) -> int:
        """The number of tokens in a step's rows, of all ranks together."""
        return self.batch * self.accumulate * self.context

    def once(self, size: int) -> Iterator[Batch]:
        """All rows of examples in their order, at most `size` in each batch, to judge a model by them."""
        parts = (torch.split(t, size) for t in (self.x_NT, self.y_NT, self.weight_NT, self.segment_NT))
        for x_BT, y_BT, weight_BT, segment_BT in zip(*parts, strict=True):
            yield Batch(x_BT, y_BT, weight_BT, segment_BT=segment_BT).to(self.device)

    def __getitem__(self, step: int) -> list[Batch]:
        whole, plain = self.batch * self.accumulate, self.replay.batch if self.replay else 0
        mine = np.arange(self.world.rank * self.share, (self.world.rank + 1) * self.share)
        return [
            self._batch(step, mine[at : at + self.microbatch], whole - plain)
            for at in range(0, self.share, self.microbatch)
        ]

    def _batch(self, step: int, numbers: NDArray[np.int64], packed: int) -> Batch:
        """The rows of a step with these numbers: those from `packed` on are plain text."""
        first = [n for n in numbers.tolist() if n < packed]
        index = shuffled_places(step * packed + np.array(first, dtype=np.int64), len(self.x_NT), self.seed)
        parts = [t[index] for t in (self.x_NT, self.y_NT, self.weight_NT, self.segment_NT)]
        if self.noise:
            parts[0] = self._noised(index, step * packed + np.array(first))
        units, more = float(parts[2].sum()), dict[str, Tensor]()
        if self.replay and len(first) < len(numbers):
            (window,) = self.replay[step]
            rows = [n - packed for n in numbers.tolist() if n >= packed]
            plain = window.x_BT[rows], window.y_BT[rows]
            text = (*plain, torch.ones(plain[0].shape), torch.zeros_like(plain[0]))
            parts = [torch.cat(both) for both in zip(parts, text, strict=True)]
        if self.replay:
            more["plain_B"] = torch.arange(len(numbers)) >= len(first)
        x_BT, y_BT, weight_BT, segment_BT = parts
        place = step * self.batch * self.accumulate + int(numbers[0])
        return Batch(x_BT, y_BT, weight_BT, seed_of(self.seed, place), segment_BT, more, units).to(self.device)

    def _noised(self, index: NDArray[np.int64], numbers: NDArray[np.int64]) -> Tensor:
        """The x of the rows with these indices, each with the noise of its number among all rows of all steps."""
        x_BT, tokens = self.x_NT[index], self.replay.tokens if self.replay else self.x_NT[self.read_again_NT].numpy()
        for x_T, read_again_T, number in zip(x_BT, self.read_again_NT[index], numbers.tolist(), strict=True):
            rng = np.random.default_rng([self.seed % 2**64, number])
            hit_T = read_again_T & torch.from_numpy(rng.random(self.context) < self.noise)
            drawn = tokens[rng.integers(len(tokens), size=int(hit_T.sum()))]
            x_T[hit_T] = torch.from_numpy(drawn.astype(np.int64))
        return x_BT
