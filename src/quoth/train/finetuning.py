"""Supervised finetuning: the objective with which a model learns answers, and stays what it was elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from quoth.text.batches import Batch
from quoth.train.divergence import kl_per_place
from quoth.train.objectives import Objective, counted, inputs, loss_of


def finetuning(reference: nn.Module, weight: float) -> Objective:
    """An objective that learns the rows of examples, and holds the rows of plain text to what `reference` predicts.

    It is −Σ w log p(y | x up to y) over examples, plus `weight` times Σ KL(reference ‖ model) over the plain text
    (learning without forgetting, Li and Hoiem 2016, arXiv:1606.09282). Replayed text as a target would be noise to a
    model that knows it already, and optimizers that normalize their steps move as far along noise as along a signal;
    the KL divergence has no gradient until the model has moved.

    The batch needs `more["plain_B"]`: true for rows of plain text; `units` is the sum of the examples' weights.

    Args:
        reference: the model before finetuning, which is frozen.
        weight: what a nat of KL at a token of plain text weighs against a nat of loss at a token of an answer.

    Returns:
        An objective. Its metric is `answer_loss`, the first of both terms.
    """

    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        plain_B, logit_BTV = batch.more["plain_B"], model(*inputs(batch))
        assert batch.weight_BT is not None
        learned_BT = batch.weight_BT * ~plain_B[:, None]
        answer_loss = (loss_of(logit_BTV, batch.y_BT) * learned_BT).sum()
        told = {"answer_loss": answer_loss.detach()}
        if not plain_B.any():
            return answer_loss, told
        rows = replace(batch.rows(plain_B), weight_BT=None, segment_BT=None)  # Each row is one text.
        with torch.no_grad():
            known_NTV = reference(*inputs(rows))
        kl_NT = kl_per_place(known_NTV, logit_BTV[plain_B])
        return answer_loss + weight * (kl_NT * counted(rows)).sum(), told

    return objective
