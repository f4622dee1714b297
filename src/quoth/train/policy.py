"""Objectives that make a policy write what is rewarded: PPO, GRPO and RLOO, on answers that it has drawn itself.

A batch's rows hold a prompt and an answer each; the answer's targets are those that count. `more` holds, for every
target, what was measured when the answers were drawn, without gradient: `old_BT`, log-probabilities under the policy
that drew them; `advantage_BT` (see `advantages`); `reference_BT`, log-probabilities under the frozen reference, where
an objective holds the policy to it; and for PPO `value_BT` and `return_BT`. What stands at targets that do not count,
NaN included, has no influence. A batch without any such target has the loss 0.

Every objective returns a sum over the targets times their weights, and sums of metrics beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from quoth.model.attention import CacheSlice
from quoth.model.layers import Places
from quoth.text.batches import Batch
from quoth.train.divergence import entropy as entropy_of
from quoth.train.divergence import k3
from quoth.train.objectives import Objective, counted, inputs, loss_of

# How many logits the entropy is taken of at once where it is only reported, so that it takes little memory.
LOGITS = 2**22


class ActorCritic(nn.Module):
    """A policy and its critic, which are trained together: ids (B, T) → logits (B, T, V) and values (B, T).

    Attributes:
        policy: a language model.
        critic: a model with one number for each token, (B, T) → (B, T, 1). The value of the state in which token
            t + 1 is drawn is the number at token t.
    """

    def __init__(self, policy: nn.Module, critic: nn.Module) -> None:
        super().__init__()
        self.policy, self.critic = policy, critic

    def forward(
        self,
        token_BT: Tensor,
        caches: Sequence[CacheSlice] | CacheSlice | None = None,
        places: Places | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See `GPT.hidden` for the arguments."""
        return self.policy(token_BT, caches, places), self.critic(token_BT, caches, places)[..., 0]


def clipped_policy(
    new_BT: Tensor, old_BT: Tensor, advantage_BT: Tensor, clip: float = 0.2, clip_high: float | None = None
) -> tuple[Tensor, Tensor]:
    """PPO's loss −min(ρ A, clip(ρ) A) of each token, and the ratio ρ = π / π_old: both (B, T).

    Where a token's probability has moved out of 1 − clip to 1 + clip in the direction that its advantage asks for, the
    loss has no gradient (Schulman et al. 2017, arXiv:1707.06347). At ρ = 1 its gradient is that of REINFORCE.

    Args:
        new_BT: log-probabilities under the policy that is trained.
        old_BT: log-probabilities under the policy that drew the tokens.
        advantage_BT: how much better than expected each token was.
        clip: how far the ratio may move.
        clip_high: how far it may move up, if not as far as down: more keeps answers more different (DAPO).

    >>> clipped_policy(torch.tensor([0.0]), torch.tensor([-1.0]), torch.tensor([1.0]))
    (tensor([-1.2000]), tensor([2.7183]))
    """
    ratio_BT = (new_BT - old_BT).exp()
    clipped_BT = ratio_BT.clamp(1 - clip, 1 + (clip if clip_high is None else clip_high))
    return -torch.min(ratio_BT * advantage_BT, clipped_BT * advantage_BT), ratio_BT


def grpo(
    clip: float = 0.2,
    *,
    clip_high: float | None = None,
    beta: float = 0.0,
    times_ratio: bool = True,
    entropy: float = 0.0,
) -> Objective:
    """Group-relative policy optimization: the clipped loss, and in it β times an estimate of the KL to the reference.

    Args:
        clip: how far the ratio of probabilities may move; see `clipped_policy`.
        clip_high: how far it may move up, if not as far as down.
        beta: β, what a nat of KL costs at each token; without it no `reference_BT` is needed.
        times_ratio: whether the estimate k3 is multiplied by the ratio π / π_old. Its gradient then is that of the
            KL at each place (DeepSeek-V3.2, and TRL). Plain k3 is what DeepSeekMath has; see `divergence`.
        entropy: how much a nat of entropy is rewarded at each token.

    Returns:
        An objective. Its metrics, each a mean over answers' tokens, are `ratio`, `clip_share` (the share of tokens
        whose gradient the clip stops), `entropy`, and with β `kl`, the estimate k3.
    """

    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        logit_BTV, mask_BT = model(*inputs(batch)), counted(batch)
        new_BT = _masked(-loss_of(logit_BTV, batch.y_BT), mask_BT)
        loss_BT, ratio_BT, told = _policy(new_BT, batch, clip, clip_high)
        if beta:
            kl_BT = k3(new_BT, _masked(batch.more["reference_BT"], mask_BT))
            loss_BT = loss_BT + beta * (kl_BT * ratio_BT if times_ratio else kl_BT)
            told["kl"] = kl_BT
        return _summed(batch, loss_BT, logit_BTV, entropy, told)

    return objective


def rloo(clip: float = 0.2, *, clip_high: float | None = None, entropy: float = 0.0) -> Objective:
    """REINFORCE leave-one-out: the clipped loss alone, since the KL to the reference is part of the reward.

    Its advantages are `rloo_advantages` of the sums of `token_rewards`. Arguments and metrics are those of `grpo`.
    """
    return grpo(clip, clip_high=clip_high, entropy=entropy)


def ppo(
    clip: float = 0.2,
    *,
    clip_high: float | None = None,
    value: float = 0.5,
    value_clip: float | None = 0.2,
    entropy: float = 0.0,
) -> Objective:
    """Proximal policy optimization: an objective of an `ActorCritic`, the clipped loss and the critic's squared error.

    The critic's error is max((V − R)², (V_clipped − R)²) / 2, with R = `return_BT` and V_clipped held within
    `value_clip` of `value_BT`, the value when the answers were drawn. The KL to the reference is part of the reward
    (`token_rewards`), whose advantages are `gae`.

    Args:
        clip: how far the ratio of probabilities may move; see `clipped_policy`.
        clip_high: how far it may move up, if not as far as down.
        value: the weight of the critic's loss.
        value_clip: how far the value may move; None lets it move freely.
        entropy: how much a nat of entropy is rewarded at each token.

    Returns:
        An objective. Its metrics are those of `grpo`, without `kl`, and `value_loss`.
    """

    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        (logit_BTV, value_BT), mask_BT = model(*inputs(batch)), counted(batch)
        loss_BT, _, told = _policy(_masked(-loss_of(logit_BTV, batch.y_BT), mask_BT), batch, clip, clip_high)
        value_BT = _masked(value_BT.to(loss_BT.dtype), mask_BT)
        then_BT, return_BT = (_masked(batch.more[name], mask_BT) for name in ("value_BT", "return_BT"))
        error_BT = (value_BT - return_BT) ** 2
        if value_clip is not None:
            clipped_BT = then_BT + (value_BT - then_BT).clamp(-value_clip, value_clip)
            error_BT = torch.max(error_BT, (clipped_BT - return_BT) ** 2)
        told["value_loss"] = 0.5 * error_BT
        return _summed(batch, loss_BT + value * told["value_loss"], logit_BTV, entropy, told)

    return objective


def _masked(value_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The values where they count and 0 elsewhere, even where they are NaN there or their exponential is infinite."""
    return torch.where(mask_BT, value_BT, 0)


def _policy(
    new_BT: Tensor, batch: Batch, clip: float, clip_high: float | None
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The clipped loss, the ratio, and what is reported of them, all (B, T)."""
    old_BT, advantage_BT = (_masked(batch.more[name], counted(batch)) for name in ("old_BT", "advantage_BT"))
    loss_BT, ratio_BT = clipped_policy(new_BT, old_BT, advantage_BT, clip, clip_high)
    low_BT = (ratio_BT < 1 - clip) & (advantage_BT < 0)
    high_BT = (ratio_BT > 1 + (clip if clip_high is None else clip_high)) & (advantage_BT > 0)
    return loss_BT, ratio_BT, {"ratio": ratio_BT, "clip_share": (low_BT | high_BT).to(ratio_BT.dtype)}


def _summed(
    batch: Batch, loss_BT: Tensor, logit_BTV: Tensor, entropy: float, told: Mapping[str, Tensor]
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The loss less the bonus for entropy, weighed and summed; and the metrics as sums over what the batch counts."""
    mask_BT = counted(batch)
    entropy_BT = entropy_of(logit_BTV) if entropy else _reported_entropy(logit_BTV)
    weight_BT = mask_BT.to(loss_BT.dtype) if batch.weight_BT is None else _masked(batch.weight_BT, mask_BT)
    # Where a batch has units, its weights have another sum, but a metric is a mean over tokens all the same.
    total = weight_BT.sum()
    scale = torch.where(total > 0, batch.count / total, 0)

    def reported(value_BT: Tensor) -> Tensor:
        return (_masked(value_BT.detach(), mask_BT) * weight_BT).sum() * scale

    loss = (_masked(loss_BT - entropy * entropy_BT, mask_BT) * weight_BT).sum()
    return loss, {name: reported(value_BT) for name, value_BT in {**told, "entropy": entropy_BT}.items()}


@torch.no_grad()
def _reported_entropy(logit_BTV: Tensor) -> Tensor:
    rows = max(1, LOGITS // logit_BTV[0].numel())
    return torch.cat([entropy_of(part) for part in torch.split(logit_BTV, rows)])
