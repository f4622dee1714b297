"""What counts: pure functions of a model and a batch, each returning a *sum*, so masks and ranks stay exact."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quoth.text.batches import Batch

Objective = Callable[[nn.Module, Batch], Tensor]


def next_token(model: nn.Module, batch: Batch) -> Tensor:
    """−Σ log p(y | x up to y), in nats, each target times its weight. A scalar in at least float32.

    Divide it by the sum of `batch.count` to get the mean: a mean of means is wrong as soon as masks differ.
    """
    logit_BTV = model(batch.x_BT)
    if logit_BTV.dtype != torch.float64:
        logit_BTV = logit_BTV.float()
    if batch.weight_BT is None:
        return F.cross_entropy(logit_BTV.flatten(0, 1), batch.y_BT.flatten(), reduction="sum")
    loss_N = F.cross_entropy(logit_BTV.flatten(0, 1), batch.y_BT.flatten(), reduction="none")
    return (loss_N * batch.weight_BT.flatten()).sum()
