"""A batch of prompts and answers in parts that fit into memory, in which answers to one prompt share it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from quoth.model.attention import SHARED
from quoth.text.batches import IGNORED, Batch
from quoth.train.objectives import counted
from quoth.train.preferences import last_counted

# How many logits are made at once on a CPU, 64 MB of them; and how many times as many on an accelerator, which small
# batches would leave idle.
LOGITS, ACCELERATED = 2**24, 16
# How many tokens a row has at most where it holds several answers, since attention takes time with their square.
ROW = 512
# Prompts are shared where this leaves at most so many of the tokens; small models lose more by the mask.
WORTH = 0.7

# Pieces of one row: a source row's number, and which of its columns.
Pieces = list[tuple[int, range]]


@dataclass(frozen=True)
class Part:
    """Some of a batch's targets, and where in the batch they stand: row and column of each place, (G, T)."""

    batch: Batch
    row_GT: Tensor
    column_GT: Tensor

    def put(self, value_GT: Tensor, into_BT: Tensor) -> None:
        """Write what was found for this part's targets to where they stand in the whole batch."""
        mask_GT = counted(self.batch)
        into_BT[self.row_GT[mask_GT], self.column_GT[mask_GT]] = value_GT[mask_GT].to(into_BT.dtype)


def in_parts(batch: Batch, vocabulary: int) -> list[Part]:
    """All targets of a batch that count, each in one part; a sum over them is the sum over the parts.

    A row of the batch holds a prompt and one answer, whose tokens are the targets that count. Where many answers have
    the same prompt, a row of a part holds the prompt once (SHARED) and all answers after it, so that fewer tokens are
    computed. Otherwise rows of about the same length are together. A part's logits number at most LOGITS (on a CPU),
    if it has more than one row. Rows in which nothing counts are left out, but for one if there is no other.

    >>> [part.batch.x_BT.shape for part in in_parts(batch, 50257)]         # doctest: +SKIP
    [torch.Size([2, 312]), torch.Size([2, 290])]
    """
    length_B = counted(batch).sum(1).tolist()
    end_B = [last + 1 for last in last_counted(batch).tolist()]
    rows = [row for row, length in enumerate(length_B) if length] or [0]
    alone: list[Pieces] = [[(row, range(end_B[row]))] for row in rows]
    longest = max(map(_size, alone))
    tokens = LOGITS * (1 if batch.x_BT.device.type == "cpu" else ACCELERATED) // vocabulary
    together = list(_sharing(batch, rows, end_B, length_B))
    if max(map(_size, together)) * len(together) <= WORTH * longest * len(alone):
        return [_part(batch, some, shared=True) for some in _fitting(together, tokens)]
    if longest * len(alone) <= tokens:
        return [_part(batch, alone)]
    return [_part(batch, some) for some in _fitting(alone, tokens)]


def _sharing(batch: Batch, rows: Sequence[int], end_B: Sequence[int], length_B: Sequence[int]) -> Iterator[Pieces]:
    """Rows that hold a prompt once, but for its last token, from which each answer's first token is foretold."""
    asked: dict[tuple[int, ...], list[int]] = {}
    for row in rows:
        before = end_B[row] - length_B[row]
        asked.setdefault(tuple(batch.x_BT[row, : before + 1].tolist()), []).append(row)
    for prompt, answers in asked.items():
        before = len(prompt) - 1
        made: Pieces = [(answers[0], range(before))]
        for row in answers:
            piece = range(before, end_B[row])
            if len(made) > 1 and _size(made) + len(piece) > ROW:
                yield made
                made = [(row, range(before))]
            made.append((row, piece))
        yield made


def _fitting(rows: Sequence[Pieces], tokens: int) -> Iterator[list[Pieces]]:
    """The rows, the longest first, so many at a time that they are no more than `tokens`, or one."""
    left = sorted(rows, key=_size, reverse=True)
    while left:
        number = max(1, tokens // _size(left[0]))
        yield left[:number]
        left = left[number:]


def _size(pieces: Pieces) -> int:
    return sum(len(columns) for _, columns in pieces)


def _part(batch: Batch, rows: Sequence[Pieces], *, shared: bool = False) -> Part:
    """The rows made of these pieces, filled up on the right with what does not count.

    Where the first piece is shared, the others are segments of their own; so is each token that only fills up.
    """
    T, device = max(map(_size, rows)), batch.x_BT.device
    row_GT, column_GT = (torch.zeros(len(rows), T, dtype=torch.long) for _ in range(2))
    filled_GT = torch.zeros(len(rows), T, dtype=torch.bool)
    segment_GT = torch.arange(T).repeat(len(rows), 1)
    for number, pieces in enumerate(rows):
        at = 0
        for index, (source, columns) in enumerate(pieces):
            place = slice(at, at + len(columns))
            row_GT[number, place], column_GT[number, place] = source, torch.tensor(columns)
            segment_GT[number, place] = at if index else SHARED
            at = place.stop
        filled_GT[number, :at] = True
    row_GT, column_GT, filled_GT = (tensor.to(device) for tensor in (row_GT, column_GT, filled_GT))

    def of(tensor: Tensor) -> Tensor:
        return tensor[row_GT, column_GT]

    assert batch.weight_BT is not None
    made = replace(
        batch,
        x_BT=of(batch.x_BT),
        y_BT=of(batch.y_BT).masked_fill(~filled_GT, IGNORED),
        weight_BT=of(batch.weight_BT) * filled_GT,
        segment_BT=segment_GT.to(device) if shared else None,
        more={name: of(tensor) for name, tensor in batch.more.items()},
    )
    return Part(made, row_GT, column_GT)
