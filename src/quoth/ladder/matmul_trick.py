"""The trick: a matrix product is a weighted sum, so a triangular matrix is an average of the past."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Show


def explain(lesson: Lesson) -> Iterator[Part]:
    """The text's first tokens: ones, then a triangle of ones, then its rows made to sum to 1."""
    rng = torch.Generator().manual_seed(lesson.seed)
    table_VC = torch.randint(0, 10, (lesson.tokenizer.vocabulary, 2), generator=rng).float()
    b, names = table_VC[lesson.ids], lesson.names(lesson.ids)
    yield Show("b: the tokens of the text, two channels each", b, names)
    ones = torch.ones(len(b), len(b))
    yield Show("ones @ b: each row is the sum of all rows of b", ones @ b)
    triangle = torch.tril(ones)
    yield Show("tril(ones): row t has ones up to t", triangle)
    yield Show("tril(ones) @ b: each row sums what is above it, and itself", triangle @ b)
    weight = triangle / triangle.sum(-1, keepdim=True)
    yield Show("each row divided by its sum", weight)
    yield Show("weight @ b: running means", weight @ b)
    yield Say(
        "Row t of the left matrix says how much of each row of b goes into row t of the result. Which rows, and how "
        "much, is now a matrix that can be anything. Next, a softmax makes it, and then the tokens themselves do."
    )
