"""What counts: pure functions of a model and a batch, each returning a *sum*, so masks and ranks stay exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quoth.text.batches import Batch

# The sum to make small; or that and other sums over the same targets, which are only reported.
Objective = Callable[[nn.Module, Batch], Tensor | tuple[Tensor, Mapping[str, Tensor]]]


def token_loss(model: nn.Module, batch: Batch) -> Tensor:
    """−log p(y | x up to y) of every target, in nats: (B, T), in at least float32. Weights do not enter.

    >>> token_loss(model, Batch(x_BT, y_BT)).shape == y_BT.shape          # doctest: +SKIP
    True
    """
    logit_BTV = model(batch.x_BT)
    if logit_BTV.dtype != torch.float64:
        logit_BTV = logit_BTV.float()
    return F.cross_entropy(logit_BTV.flatten(0, 1), batch.y_BT.flatten(), reduction="none").view(batch.y_BT.shape)


def next_token(model: nn.Module, batch: Batch) -> Tensor:
    """−Σ log p(y | x up to y), in nats: the sum of `token_loss`, each target times its weight. A scalar.

    Divide it by the sum of `batch.count` to get the mean: a mean of means is wrong as soon as masks differ.
    """
    loss_BT = token_loss(model, batch)
    return loss_BT.sum() if batch.weight_BT is None else (loss_BT * batch.weight_BT).sum()
