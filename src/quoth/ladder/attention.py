"""Self-attention, the fourth version: the weights of the average come from the data."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from quoth.ladder.averaging import mean_softmax
from quoth.ladder.embedding import placed
from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Show
from quoth.ladder.rung import Rung
from quoth.model.config import GPTConfig


class Head(nn.Module):
    """One head of causal self-attention, spelled out. (B, T, C) → (B, T, K); the block of the rung one-head.

    `scale` multiplies the scores; 1 / √K when left out.
    """

    def __init__(self, c: GPTConfig, size: int = 0, scale: float | None = None) -> None:
        super().__init__()
        K = size or c.width
        self.query = nn.Linear(c.width, K, bias=False)
        self.key = nn.Linear(c.width, K, bias=False)
        self.value = nn.Linear(c.width, K, bias=False)
        self.scale = K**-0.5 if scale is None else scale

    def scores(self, x_BTC: Tensor) -> Tensor:
        """How much each token wants to hear from each: (B, T, T), before the future is hidden."""
        return self.query(x_BTC) @ self.key(x_BTC).mT * self.scale  # type: ignore[no-any-return]

    def weights(self, x_BTC: Tensor) -> Tensor:
        """Whom each token averages, (B, T, T): each row sums to 1, and the future counts for 0."""
        past_TT = torch.tril(torch.ones(x_BTC.shape[1], x_BTC.shape[1], dtype=torch.bool, device=x_BTC.device))
        return self.scores(x_BTC).masked_fill(~past_TT, -torch.inf).softmax(-1)

    def forward(self, x_BTC: Tensor, *unused: object) -> Tensor:
        return self.weights(x_BTC) @ self.value(x_BTC)  # type: ignore[no-any-return]


RUNG = Rung(
    "one-head",
    "Self-attention: a head of 32 channels, by which tokens hear from earlier ones; and positions.",
    lecture_loss=2.4,
    block=lambda c, scale: Head(c, scale=scale),
)


def explain(lesson: Lesson) -> Iterator[Part]:
    """Queries, keys and values of a trained head on a text; and of one that wants nothing, which is the mean."""
    model = lesson.trained(lesson.holding(RUNG), steps=2000)
    head, ids = model.blocks[0], lesson.ids
    assert isinstance(head, Head)
    names = lesson.names(ids)
    with torch.no_grad():
        x_BTC = placed(model, ids)
        yield Say(
            "Each token emits a query (what am I looking for), a key (what do I have) and a value (what I tell those "
            "who listen). A pair's score is the product of query and key over √K; a softmax makes weights of scores."
        )
        for name in ("query", "key", "value"):
            yield Show(
                f"{name}, four of {head.query.out_features} channels", getattr(head, name)(x_BTC)[0, :, :4], names
            )
        yield Show("scores, query rows × key columns", head.scores(x_BTC)[0], rows=names, columns=names)
        yield Show("weights: the future hidden, each row summing to 1", head.weights(x_BTC)[0], names, names)
        yield Show("what comes out for the last token, (K,)", head(x_BTC)[0, -1])
        for linear in (head.query, head.key):
            nn.init.zeros_(linear.weight)
        flat = (head(x_BTC) - mean_softmax(head.value(x_BTC))).abs().max().item()
    yield Say(
        f"With queries and keys of zero every score is 0, and attention is the plain mean of version 3: they differ by "
        f"{flat:.1e}."
    )
