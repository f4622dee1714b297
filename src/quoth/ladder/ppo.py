"""PPO's clipped objective (Schulman et al. 2017, arXiv:1707.06347): several passes, but not too far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import inf

import torch
from torch import Tensor

from quoth.ladder.enumerated import REFERENCE_PN, REWARD_PN, Policy, rows
from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Curves, Part, Say, Table
from quoth.text.batches import Batch
from quoth.train.divergence import kl_per_place
from quoth.train.policy import clipped_policy, rloo

CLIP, DRAWN, RATE = 0.2, 16, 0.05
RATIOS = (0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5)


def objective(ratio_N: Tensor, advantage: float) -> Tensor:
    """min(ρ A, clip(ρ) A) of each ratio: (N,); what PPO makes large is minus its loss."""
    return -clipped_policy(ratio_N.log(), torch.zeros_like(ratio_N), torch.full_like(ratio_N, advantage), CLIP)[0]


def slope(ratio_N: Tensor, advantage: float) -> Tensor:
    """The derivative of the objective by each ratio: (N,)."""
    ratio_N = ratio_N.clone().requires_grad_()
    return torch.autograd.grad(objective(ratio_N, advantage).sum(), ratio_N)[0]


def answers(seed: int) -> Batch:
    """Answers to the first prompt that the reference has drawn, with the reward less their mean as advantage."""
    drawn_B = REFERENCE_PN[0].exp().multinomial(DRAWN, replacement=True, generator=torch.Generator().manual_seed(seed))
    reward_B = REWARD_PN[0][drawn_B]
    more = {"old_BT": REFERENCE_PN[0][drawn_B][:, None], "advantage_BT": (reward_B - reward_B.mean())[:, None]}
    return replace(rows([(0, int(answer)) for answer in drawn_B]), more=more)


def passes(batch: Batch, clip: float, number: int) -> Tensor:
    """log π of the answers to the first prompt after so many passes over the same answers: (N,)."""
    policy, learn = Policy(), rloo(clip)
    optimizer = torch.optim.Adam(policy.parameters(), RATE)
    for _ in range(number):
        optimizer.zero_grad()
        loss = learn(policy, batch)
        (loss[0] if isinstance(loss, tuple) else loss).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return policy.log_probs()[0].detach()


def explain(lesson: Lesson) -> Iterator[Part]:
    """The objective and its slope by the ratio; and many passes over the same few answers, clipped and not."""
    ratio_N = torch.linspace(0.4, 1.6, 13)
    lines = {name: objective(ratio_N, a).tolist() for name, a in (("better, A = 1", 1.0), ("worse, A = −1", -1.0))}
    yield Curves("The clipped objective", "ratio π / π_old", "min(ρ A, clip(ρ) A)", ratio_N.tolist(), lines)
    some = torch.tensor(RATIOS)
    yield Table(
        "Its slope",
        ["ratio", "A = 1", "A = −1"],
        list(zip(RATIOS, slope(some, 1).tolist(), slope(some, -1).tolist(), strict=True)),
    )
    yield Say(
        f"A better answer is pushed up until it is {1 + CLIP:g} times as likely as when it was drawn, and a worse one "
        f"down until it is {1 - CLIP:g} times as likely. Beyond that there is no slope. The minimum keeps the slope "
        "where an answer has moved the wrong way, so that it can come back."
    )
    batch, table = answers(lesson.seed), []
    for number in (1, 5, 20, 100, 500):
        for_each = [passes(batch, clip, number) for clip in (inf, CLIP)]
        kls = [float(kl_per_place(log_N[None, None], REFERENCE_PN[:1][None])) for log_N in for_each]
        table.append((number, *kls, *(float(log_N.exp().max()) for log_N in for_each)))
    heads = ["passes", "KL", "KL, clipped", "likeliest answer", "likeliest, clipped"]
    yield Table(f"Passes over the same {DRAWN} answers, KL from the policy that drew them", heads, table)
    yield Say(
        "Unclipped, the policy soon says only what was best of these few. PPO stops early, and draws new answers."
    )
