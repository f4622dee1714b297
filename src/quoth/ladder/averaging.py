"""Averaging the past, three ways: a loop, a matrix product, and a softmax. Self-attention is the fourth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter

import torch
from torch import Tensor

from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Show, Table


def mean_loop(x_BTC: Tensor) -> Tensor:
    """Version 1: for each row and time, the mean of what has been so far. (B, T, C) → (B, T, C)."""
    mean_BTC = torch.zeros_like(x_BTC)
    for b in range(x_BTC.shape[0]):
        for t in range(x_BTC.shape[1]):
            mean_BTC[b, t] = x_BTC[b, : t + 1].mean(0)
    return mean_BTC


def mean_matmul(x_BTC: Tensor) -> Tensor:
    """Version 2: row t of a triangular matrix holds 1 / (t + 1) for every time up to t; a product takes all means."""
    T = x_BTC.shape[1]
    weight_TT = torch.tril(torch.ones(T, T, dtype=x_BTC.dtype))
    return (weight_TT / weight_TT.sum(-1, keepdim=True)) @ x_BTC


def mean_softmax(x_BTC: Tensor) -> Tensor:
    """Version 3: the same matrix as a softmax of zeros, with −∞ where the future is."""
    T = x_BTC.shape[1]
    score_TT = torch.zeros(T, T, dtype=x_BTC.dtype)
    score_TT = score_TT.masked_fill(~torch.tril(torch.ones(T, T, dtype=torch.bool)), -torch.inf)
    return score_TT.softmax(-1) @ x_BTC


def milliseconds(f: Callable[[Tensor], Tensor], x: Tensor, repeats: int = 5) -> float:
    """The least time of some calls."""
    times = []
    for _ in range(repeats):
        begin = perf_counter()
        f(x)
        times.append(perf_counter() - begin)
    return 1000 * min(times)


def explain(lesson: Lesson) -> Iterator[Part]:
    """The three versions on one text, equal, and timed at longer and longer windows."""
    x_BTC, names = lesson.vectors()[None], lesson.names(lesson.ids)
    T = len(names)
    yield Show("x: a vector of 2 channels for each character, (T, C)", x_BTC[0], rows=names)
    yield Show("version 1, a loop: the mean of each row and all above it", mean_loop(x_BTC)[0], rows=names)
    zeros = torch.zeros(T, T).masked_fill(~torch.tril(torch.ones(T, T, dtype=torch.bool)), -torch.inf)
    yield Show("version 2, the weights of a product: who is averaged by whom", mean_matmul(torch.eye(T)[None])[0])
    yield Show("version 3, before the softmax: zeros, and −∞ for the future", zeros)
    same = max((mean_loop(x_BTC) - f(x_BTC)).abs().max().item() for f in (mean_matmul, mean_softmax))
    yield Say(f"The three differ by at most {same:.1e}: they are one computation.")
    rows: list[tuple[str | float, ...]] = []
    for T in (8, 64, 256):
        x = torch.randn(4, T, 32)
        took = [milliseconds(f, x) for f in (mean_loop, mean_matmul, mean_softmax)]
        rows.append((f"T = {T}", *took, took[0] / took[1]))
    columns = ["window", "loop, ms", "product, ms", "softmax, ms", "loop over product"]
    yield Table("Time for 4 rows of 32 channels", columns, rows)
    yield Say(
        "The loop grows with every row and time; the product is one call. The softmax costs little more, and its zeros "
        "are a place to put something: how much each token *wants* to hear from each earlier one. That is attention."
    )
