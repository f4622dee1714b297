"""Objectives: pure functions of a model and a batch. Each returns a *sum*, so that masks and ranks stay exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quoth.model.attention import Segments
from quoth.text.batches import IGNORED, Batch

# It returns the sum to minimize; or that sum and others over the same targets, which are only reported.
Objective = Callable[[nn.Module, Batch], Tensor | tuple[Tensor, Mapping[str, Tensor]]]


def token_loss(model: nn.Module, batch: Batch) -> Tensor:
    """−log p(y | x up to y) of every target, in nats: (B, T), in at least float32. The batch's weights are not applied.

    Where a row holds several texts, each target is predicted from its own text alone.

    >>> token_loss(model, Batch(x_BT, y_BT)).shape == y_BT.shape          # doctest: +SKIP
    True
    """
    return loss_of(model(*inputs(batch)), batch.y_BT)


def loss_of(logit_BTV: Tensor, target_BT: Tensor) -> Tensor:
    """−log p of each target under a model's logits, in nats: (B, T), in at least float32; 0 where it is IGNORED.

    >>> loss_of(torch.zeros(1, 2, 4), torch.tensor([[0, 3]]))
    tensor([[1.3863, 1.3863]])
    """
    if logit_BTV.dtype != torch.float64:
        logit_BTV = logit_BTV.float()
    return F.cross_entropy(logit_BTV.flatten(0, 1), target_BT.flatten(), reduction="none").view(target_BT.shape)


def inputs(batch: Batch) -> tuple[Any, ...]:
    """A model's arguments for a batch: its ids; and if rows hold several texts, what each token sees, and its place.

    >>> model(*inputs(batch)).shape[:2] == batch.x_BT.shape               # doctest: +SKIP
    True
    """
    if batch.segment_BT is None:
        return (batch.x_BT,)
    segments = Segments(batch.segment_BT)
    return batch.x_BT, segments, segments.places_BT


def next_token(model: nn.Module, batch: Batch) -> Tensor:
    """−Σ log p(y | x up to y), in nats: the sum of `token_loss`, each target times its weight, as a scalar.

    Divide it by the sum of `batch.count` to get the mean; a mean of batches' means is wrong if their masks differ.
    """
    loss_BT = token_loss(model, batch)
    return loss_BT.sum() if batch.weight_BT is None else (loss_BT * batch.weight_BT).sum()


def counted(batch: Batch) -> Tensor:
    """Which targets count: (B, T), true where the weight is above 0 and the target is not IGNORED.

    >>> counted(Batch(torch.tensor([[1, 2]]), torch.tensor([[2, 3]]), torch.tensor([[0.0, 1.0]])))
    tensor([[False,  True]])
    """
    counts_BT = batch.y_BT != IGNORED
    return counts_BT if batch.weight_BT is None else counts_BT & (batch.weight_BT > 0)
