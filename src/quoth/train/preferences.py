"""Objectives that learn from what people prefer: a reward model's, and those that tune a policy without one.

Rows hold one text each, a prompt and an answer, and the answer's targets are those that count. Of pairs, the rows
alternate: chosen, rejected, chosen, rejected. Every objective returns a sum over pairs (KTO: over answers) and, beside
it, metrics as sums over the same, so a batch says their number as its `units`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quoth.text.batches import Batch
from quoth.train.objectives import Objective, counted, inputs, token_loss


def answer_log_probs(model: nn.Module, batch: Batch) -> Tensor:
    """log p(answer | prompt) of each row, in nats: (B,), summed over the targets that count, whatever their weight.

    >>> answer_log_probs(model, batch).shape == batch.x_BT.shape[:1]       # doctest: +SKIP
    True
    """
    return -(token_loss(model, batch) * counted(batch)).sum(1)


def last_counted(batch: Batch) -> Tensor:
    """The place in T of each row's last target that counts: (B,); 0 for a row in which none counts.

    >>> x_BT, weight_BT = torch.zeros(1, 4, dtype=torch.long), torch.tensor([[0.0, 1.0, 1.0, 0.0]])
    >>> last_counted(Batch(x_BT, x_BT, weight_BT))
    tensor([2])
    """
    places_T = torch.arange(batch.y_BT.shape[1], device=batch.y_BT.device)
    return (places_T * counted(batch)).amax(1)


def scores(scorer: nn.Module, batch: Batch) -> Tensor:
    """The score that a reward model gives each row's text: (B,), in at least float32.

    The score is read where the scorer has seen the row's last counted target, which is the end token of an answer that
    ends; what follows that token in the row has no influence. The scorer thus reads one token more than `batch.x_BT`
    holds: T + 1 must not exceed its context.

    Args:
        scorer: a model whose head gives one number for each token: (B, T) → (B, T, 1).
    """
    after_B1 = last_counted(batch)[:, None] + 1

    def extended(x_BT: Tensor, last_B1: Tensor) -> Tensor:
        return torch.cat([x_BT, x_BT[:, -1:]], 1).scatter(1, after_B1, last_B1)

    last_B1 = batch.y_BT.gather(1, after_B1 - 1).clamp_min(0)  # A row in which nothing counts may end in IGNORED.
    segment_BT = batch.segment_BT
    if segment_BT is not None:
        segment_BT = extended(segment_BT, segment_BT.gather(1, after_B1 - 1))
    score_BT = scorer(*inputs(replace(batch, x_BT=extended(batch.x_BT, last_B1), segment_BT=segment_BT)))[..., 0]
    score_B: Tensor = score_BT.gather(1, after_B1)[:, 0]
    return score_B if score_B.dtype == torch.float64 else score_B.float()


def bradley_terry(scorer: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
    """−Σ log σ(score of chosen − score of rejected), over pairs: the objective of a reward model.

    It is the likelihood of the comparisons if a person prefers one answer with odds of e to the power of the scores'
    difference (Bradley and Terry 1952).

    Returns:
        The sum, and beside it sums of `accuracy`, `margin`, `chosen_reward` and `rejected_reward`.
    """
    score_B = scores(scorer, batch)
    return -F.logsigmoid(score_B[0::2] - score_B[1::2]).sum(), _pair_metrics(score_B)


def dpo(beta: float = 0.1, kind: Literal["sigmoid", "ipo"] = "sigmoid", *, chosen: float = 0.0) -> Objective:
    """Direct preference optimization: an objective that tunes a policy on pairs without a reward model.

    The implicit reward of an answer is β (log π − log π_ref); the optimum of reward less β KL has exactly this reward,
    up to a number for each prompt (Rafailov et al. 2023, arXiv:2305.18290). The batch needs
    `more["reference_B"]`: `answer_log_probs` of the frozen reference, of each row.

    Args:
        beta: how strongly the policy is held to the reference; for IPO it is the paper's τ.
        kind: sigmoid is −log σ of the difference of rewards, which grows without end where all agree on a pair. ipo is
            (difference of log π − log π_ref per token − 1 / 2β)², which has a finite optimum (Azar et al. 2023,
            arXiv:2310.12036). The paper means whole answers; the mean per token is what its authors computed, and
            what TRL computes, since otherwise the loss would grow with the answers' length.
        chosen: the weight of the chosen answers' own loss, −log π per token, as a mean over answers. DPO looks at
            differences alone, and may make both answers of a pair less likely, their end tokens too; this keeps the
            chosen ones likely (Pang et al. 2024, arXiv:2404.19733).

    Returns:
        An objective. Its metrics are those of `bradley_terry`, of the implicit rewards.
    """

    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        log_B, length_B = answer_log_probs(model, batch), counted(batch).sum(1).clamp_min(1)
        ratio_B = log_B - batch.more["reference_B"]
        if kind == "ipo":
            mean_B = ratio_B / length_B
            loss = ((mean_B[0::2] - mean_B[1::2] - 1 / (2 * beta)) ** 2).sum()
        else:
            loss = -F.logsigmoid(beta * (ratio_B[0::2] - ratio_B[1::2])).sum()
        return loss - chosen * (log_B / length_B)[0::2].sum(), _pair_metrics(beta * ratio_B)

    return objective


def kto(beta: float = 0.1, desirable: float = 1.0, undesirable: float = 1.0) -> Objective:
    """Kahneman–Tversky optimization: tunes a policy on single answers that people found good or bad.

    An answer's loss is λ (1 − σ(±(β (log π − log π_ref) − z))), + for a good and − for a bad one, where z is β times
    the KL between policy and reference, and has no gradient (Ethayarajh et al. 2024, arXiv:2402.01306). That KL is
    estimated from rows that pair prompts with answers to other prompts: their mean of log π − log π_ref, at least 0.
    Each microbatch of each process has its own estimate.

    The batch needs `more["reference_B"]`: `answer_log_probs` of the frozen reference, of each row;
    `more["desirable_B"]`: true for a good answer; and, unless z is to be 0, `more["mismatched_B"]`: true for the rows
    that serve z alone. `units` is the number of the other rows.

    Args:
        beta: how strongly the policy is held to the reference.
        desirable: the weight λ of good answers.
        undesirable: the weight λ of bad answers.

    Returns:
        An objective. Its metrics are `kl`; `margin`, the mean of ±(β (log π − log π_ref) − z); and `accuracy`, the
        share of answers whose reward, β (log π − log π_ref), is above 0 if they are good and below 0 if they are bad.
    """

    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        own, kl = batch, batch.x_BT.new_zeros((), dtype=torch.float32)
        if (other_B := batch.more.get("mismatched_B")) is not None and other_B.any():
            others, own = batch.rows(other_B.bool()), batch.rows(~other_B.bool())
            with torch.no_grad():
                kl = baseline(answer_log_probs(model, others) - others.more["reference_B"])
        good_B = own.more["desirable_B"].bool()
        ratio_B = answer_log_probs(model, own) - own.more["reference_B"]
        loss_B, gain_B = kto_losses(ratio_B, good_B, kl, beta, desirable, undesirable)
        right_B = right_signs(ratio_B.detach(), good_B)
        return loss_B.sum(), {"kl": kl * len(gain_B), "margin": gain_B.detach().sum(), "accuracy": right_B.sum()}

    return objective


def kto_losses(
    ratio_B: Tensor, good_B: Tensor, kl: Tensor, beta: float, desirable: float, undesirable: float
) -> tuple[Tensor, Tensor]:
    """KTO's loss of each answer, and ±(β (log π − log π_ref) − z), of which it is made: (B,) and (B,).

    Args:
        ratio_B: log π − log π_ref.
        good_B: whether somebody found the answer good.
        kl: what `baseline` says; z is β times it.

    >>> kto_losses(torch.zeros(2), torch.tensor([True, False]), torch.tensor(0.0), 0.1, 1.0, 2.0)[0]
    tensor([0.5000, 1.0000])
    """
    gain_B = beta * torch.where(good_B, ratio_B - kl, kl - ratio_B)
    short_B = (-gain_B).sigmoid()
    return torch.where(good_B, desirable * short_B, undesirable * short_B), gain_B


def baseline(ratio_B: Tensor) -> Tensor:
    """The KL between policy and reference, from log π − log π_ref of answers to other prompts: (), at least 0.

    >>> baseline(torch.tensor([-1.0, 4.0])), baseline(torch.tensor([-4.0, 1.0]))
    (tensor(1.5000), tensor(0.))
    """
    return ratio_B.mean().clamp_min(0)


def right_signs(ratio_B: Tensor, good_B: Tensor) -> Tensor:
    """1 where log π − log π_ref of a good answer is above 0 or that of a bad one below 0, and 0.5 where it is 0: (B,).

    >>> right_signs(torch.tensor([2.0, 2.0, 0.0]), torch.tensor([True, False, True]))
    tensor([1.0000, 0.0000, 0.5000])
    """
    return 0.5 + 0.5 * torch.where(good_B, ratio_B, -ratio_B).sign()


def _pair_metrics(reward_B: Tensor) -> dict[str, Tensor]:
    """What is reported of pairs, as sums over them; a tie is half right, as a tossed coin would be."""
    chosen, rejected = reward_B.detach()[0::2], reward_B.detach()[1::2]
    return {
        "accuracy": ((chosen > rejected).float() + 0.5 * (chosen == rejected)).sum(),
        "margin": (chosen - rejected).sum(),
        "chosen_reward": chosen.sum(),
        "rejected_reward": rejected.sum(),
    }
