"""How much better than expected an answer's tokens were: pure functions from rewards to advantages.

Rows hold one prompt and one answer each. `mask_BT` is true at the answer's targets (`objectives.counted`); what stands
elsewhere, NaN included, has no influence. The rows of a group, which are answers to one prompt, follow each other.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from quoth.system.errors import InputError
from quoth.system.world import World
from quoth.train.divergence import k1


class GroupAdvantages(NamedTuple):
    """The advantages of answers that were compared within their groups.

    Attributes:
        advantage_B: (B,); 0 for an answer that has no reward, or nothing to be compared with.
        known_B: whether each answer has a reward, that is, a finite one. Give the others' rows weight 0, so that they
            count in nothing.
        lost: how many answers have none.
        equal: the share of groups whose rewards are all equal, so that nothing is learned from them.
    """

    advantage_B: Tensor
    known_B: Tensor
    lost: int
    equal: float


def grpo_advantages(reward_B: Tensor, group: int, *, divide: bool = True) -> GroupAdvantages:
    """Each answer's reward less the mean of its group: (B,) (Shao et al. 2024, arXiv:2402.03300, GRPO).

    Where all rewards of a group are equal, its advantages are 0. An answer whose reward is not finite is left out of
    its group.

    Args:
        reward_B: one reward for each answer; groups follow each other.
        group: how many answers a group has, at least 2.
        divide: whether the result is divided by the group's standard deviation. GRPO does; then a group whose rewards
            hardly differ weighs as much as one whose rewards differ widely. Dr. GRPO does not (Liu et al. 2025,
            arXiv:2503.20783), which leaves the gradient unbiased.

    >>> grpo_advantages(torch.tensor([1.0, 0.0, 3.0, 3.0]), 2, divide=False).advantage_B
    tensor([ 0.5000, -0.5000,  0.0000,  0.0000])

    Raises:
        InputError: the answers do not make whole groups of at least 2.
    """
    reward_GN, known_GN = _in_groups(reward_B, group)
    number_G1 = known_GN.sum(1, keepdim=True)
    centred_GN = _centred(reward_GN, known_GN)
    if divide:
        variance_G1 = (centred_GN**2).sum(1, keepdim=True) / (number_G1 - 1).clamp_min(1)
        # The small number keeps rewards that differ by rounding alone from being blown up; it is TRL's.
        centred_GN = centred_GN / (variance_G1.sqrt() + 1e-4)
    return _advantages(centred_GN, reward_GN, known_GN)


def rloo_advantages(reward_B: Tensor, group: int) -> GroupAdvantages:
    """Each answer's reward less the mean of the *others* of its group: (B,) (Ahmadian et al. 2024, arXiv:2402.14740).

    This is REINFORCE with a baseline that does not depend on the answer, so its gradient is unbiased. The rest is as
    for `grpo_advantages`.

    >>> rloo_advantages(torch.tensor([1.0, 0.0, float("nan"), 3.0]), 4).advantage_B
    tensor([-0.5000, -2.0000,  0.0000,  2.5000])

    Raises:
        InputError: the answers do not make whole groups of at least 2.
    """
    reward_GN, known_GN = _in_groups(reward_B, group)
    number_G1 = known_GN.sum(1, keepdim=True)
    return _advantages(_centred(reward_GN, known_GN) * number_G1 / (number_G1 - 1).clamp_min(1), reward_GN, known_GN)


def _in_groups(reward_B: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """The rewards by group, with 0 for those that are not finite, and which are: both (G, N)."""
    if group < 2 or len(reward_B) % group:
        raise InputError(
            f"Answers are compared within groups of at least 2, but {len(reward_B)} answers in groups of {group} are "
            "no such groups."
        )
    reward_GN = reward_B.view(-1, group)
    known_GN = reward_GN.isfinite()
    return torch.where(known_GN, reward_GN, 0), known_GN


def _centred(reward_GN: Tensor, known_GN: Tensor) -> Tensor:
    """The rewards less their group's mean; exactly 0 where a group's rewards are equal."""
    mean_G1 = reward_GN.sum(1, keepdim=True) / known_GN.sum(1, keepdim=True).clamp_min(1)
    return torch.where(known_GN & ~_equal(reward_GN, known_GN)[:, None], reward_GN - mean_G1, 0)


def _equal(reward_GN: Tensor, known_GN: Tensor) -> Tensor:
    """Whether all known rewards of each group are equal: (G,)."""
    low_G = torch.where(known_GN, reward_GN, torch.inf).amin(1)
    return low_G >= torch.where(known_GN, reward_GN, -torch.inf).amax(1)


def _advantages(advantage_GN: Tensor, reward_GN: Tensor, known_GN: Tensor) -> GroupAdvantages:
    equal = _equal(reward_GN, known_GN).float().mean().item()
    return GroupAdvantages(advantage_GN.flatten(), known_GN.flatten(), int((~known_GN).sum()), equal)


def token_rewards(score_B: Tensor, policy_BT: Tensor, reference_BT: Tensor, mask_BT: Tensor, beta: float) -> Tensor:
    """The reward of each token: −β (log π − log π_ref), and at the answer's last token its score as well: (B, T).

    The KL to the reference thus is part of the reward, as k1, where its gradient is exact (see `divergence`). PPO makes
    advantages of it by `gae`; RLOO compares its sum over T.

    Args:
        score_B: what the reward model or rule says of each answer.
        policy_BT: log-probabilities of the drawn tokens under the policy that drew them.
        reference_BT: the same under the frozen reference.
        mask_BT: true at the answers' targets. A row without any has no reward.
        beta: how much a nat of KL costs.
    """
    reward_BT = torch.where(mask_BT, -beta * k1(policy_BT, reference_BT), 0)
    places_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    last_BT = mask_BT & (places_T == (places_T * mask_BT).amax(1, keepdim=True))
    return reward_BT + torch.where(last_BT, score_B[:, None], 0)


def gae(reward_BT: Tensor, value_BT: Tensor, mask_BT: Tensor, gamma: float = 1.0, lam: float = 0.95) -> Tensor:
    """Generalized advantage estimates: Σ_k (γλ)^k δ_(t+k), with δ_t = r_t + γ V_(t+1) − V_t: (B, T).

    The sum goes over the answer's own tokens; after its last one nothing is worth anything. λ = 1 is the reward to go
    less the value, λ = 0 trusts the value after one token (Schulman et al. 2015, arXiv:1506.02438). The result plus
    `value_BT` is what the value should have been, `return_BT`.

    Args:
        reward_BT: the reward of each token.
        value_BT: the critic's value of the state in which each token was drawn.
        mask_BT: true at the answers' targets; what stands between an answer's parts is skipped.
        gamma: γ, by how much a reward is worth less a token later.
        lam: λ, between low bias (1) and low variance (0).
    """
    reward_BT, value_BT = (torch.where(mask_BT, x_BT, 0) for x_BT in (reward_BT, value_BT))
    advantage_BT = torch.zeros_like(value_BT)
    next_advantage_B, next_value_B = (torch.zeros_like(value_BT[:, 0]) for _ in range(2))
    for t in reversed(range(value_BT.shape[1])):
        delta_B = reward_BT[:, t] + gamma * next_value_B - value_BT[:, t]
        next_advantage_B = torch.where(mask_BT[:, t], delta_B + gamma * lam * next_advantage_B, next_advantage_B)
        next_value_B = torch.where(mask_BT[:, t], value_BT[:, t], next_value_B)
        advantage_BT[:, t] = torch.where(mask_BT[:, t], next_advantage_B, 0)
    return advantage_BT


def standardized(advantage_BT: Tensor, mask_BT: Tensor, world: World | None = None) -> Tensor:
    """The advantages with mean 0 and standard deviation 1 over all answers' tokens of all processes; 0 elsewhere.

    Advantages that are all equal become 0.
    """
    world = world or World()
    counted_BT = torch.where(mask_BT, advantage_BT, 0).double()
    number = world.sum(mask_BT.double().sum()).clamp_min(1)
    centred_BT = torch.where(mask_BT, counted_BT - world.sum(counted_BT.sum()) / number, 0)
    deviation = (world.sum((centred_BT**2).sum()) / number).sqrt()
    return (centred_BT / deviation.clamp_min(1e-8)).to(advantage_BT.dtype)


def explained_variance(value_BT: Tensor, return_BT: Tensor, mask_BT: Tensor) -> float:
    """1 − Var(return − value) / Var(return) over the answers' tokens: 1 for a perfect critic, 0 for a constant one.

    It is negative for a critic that is worse than a constant, and 0 where all returns are equal.

    >>> value = torch.tensor([[1.0, 2.0, 9.0]])
    >>> explained_variance(value, torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[True, True, False]]))
    1.0
    """
    value, returned = value_BT[mask_BT].double(), return_BT[mask_BT].double()
    total = returned.var(correction=0).item() if len(returned) else 0.0
    return 1 - (returned - value).var(correction=0).item() / total if total else 0.0


def answer_weights(
    mask_BT: Tensor, mean: Literal["tokens", "answers", "longest"] = "tokens", longest: int = 0
) -> Tensor:
    """The weights that make a batch's loss a mean of a certain kind: (B, T), 0 outside the answers.

    Args:
        mask_BT: true at the answers' targets.
        mean: tokens gives every token the same weight, as DAPO does (Yu et al. 2025, arXiv:2503.14476). answers gives
            every answer the same weight, shared by its tokens, as the first GRPO does: a token of a long answer then
            counts less, so long wrong answers are punished too little and answers grow. longest divides all by one
            constant, as Dr. GRPO does, which favours no length; say `units`, the number of answers, in the batch.
        longest: that constant, such as the most tokens that an answer may have.

    >>> answer_weights(torch.tensor([[True, True], [True, False]]), "answers")
    tensor([[0.5000, 0.5000],
            [1.0000, 0.0000]])
    """
    if mean == "tokens":
        return mask_BT.float()
    if mean == "answers":
        return mask_BT / mask_BT.sum(1, keepdim=True).clamp_min(1)
    return mask_BT / max(1, longest)
