"""Direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290): what falls out of the best policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from quoth.ladder.enumerated import ANSWERS, PROMPTS, REFERENCE_PN, REWARD_PN, Policy, comparisons, minimize, rows
from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Table
from quoth.ladder.policy_gradient import optimum
from quoth.text.batches import Batch
from quoth.train.preferences import answer_log_probs, dpo

BETA, STEPS = 0.5, (10, 100, 1000)


def with_reference(batch: Batch) -> Batch:
    """The batch with the reference's log-probability of each row's answer."""
    with torch.no_grad():
        return replace(batch, more={"reference_B": answer_log_probs(Policy(), batch)})


def loss_of(policy: Policy, batch: Batch, kind: Literal["sigmoid", "ipo"] = "sigmoid") -> Tensor:
    """DPO's loss of all pairs of a batch, summed."""
    loss = dpo(BETA, kind)(policy, batch)
    return loss[0] if isinstance(loss, tuple) else loss


def learned() -> Tensor:
    """log π of the policy that DPO learns from all comparisons: (P, N). No reward model has been seen."""
    policy, batch = Policy(), with_reference(comparisons())
    minimize(policy, lambda: loss_of(policy, batch))
    return policy.log_probs().detach()


def agreed(kind: Literal["sigmoid", "ipo"], steps: int) -> float:
    """How far apart the implicit rewards of two answers are after some steps, if everybody prefers the first."""
    policy, batch = Policy(), with_reference(rows([(0, 0), (0, 1)]))
    optimizer = torch.optim.SGD(policy.parameters(), 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(policy, batch, kind).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    implicit_N = BETA * (policy.log_probs() - REFERENCE_PN)[0].detach()
    return float(implicit_N[0] - implicit_N[1])


def explain(lesson: Lesson) -> Iterator[Part]:
    """The reward solved for; the policy that DPO learns is the best one; and pairs on which all agree."""
    yield Say(
        "The best policy is π* = π_ref · exp(reward / β) / Z, with one Z for each prompt. Solved for the reward: "
        "β log(π* / π_ref) + β log Z. In a comparison of two answers Z cancels. So Bradley and Terry's loss can be "
        "written with β log(π / π_ref) as the score, and the policy is its own reward model."
    )
    log_PN, best_PN = learned(), optimum(BETA)
    implicit_PN = BETA * (log_PN - REFERENCE_PN)
    shown = (REFERENCE_PN.exp(), best_PN.exp(), log_PN.exp(), REWARD_PN, implicit_PN, implicit_PN - REWARD_PN)
    places = [(p, n) for p in range(len(PROMPTS)) for n in range(len(ANSWERS))]
    table = [(PROMPTS[p], ANSWERS[n], *[f"{values_PN[p, n]:.3f}" for values_PN in shown]) for p, n in places]
    columns = ["prompt", "answer", "π_ref", "π*", "DPO", "reward", "implicit", "difference"]
    yield Table(f"From the comparisons alone, β = {BETA:g}", columns, table)
    yield Say(
        "This is the policy that RLHF would reach. The implicit reward is the reward, but for a number for each prompt."
    )
    margins = [(steps, agreed("sigmoid", steps), agreed("ipo", steps)) for steps in STEPS]
    yield Table("A pair on which all agree: the difference of implicit rewards", ["steps", "sigmoid", "IPO"], margins)
    yield Say(
        "Where everybody prefers the same answer, the sigmoid's loss falls without end as the difference grows, "
        "whatever β is. IPO's is least where the log ratios differ by 1 / 2β, and so the implicit rewards by 1/2."
    )
