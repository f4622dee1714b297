"""Advantages: how much better than expected an answer was, by a baseline, by its group, or token by token."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from quoth.ladder.enumerated import REFERENCE_PN, REWARD_PN
from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Part, Say, Table
from quoth.train.advantages import gae, grpo_advantages, rloo_advantages

GROUP, HIGHER = 3, 5.0
GROUPS = ((1.0, 0.0, 0.0, 1.0), (1.0, 0.0, 0.0, 0.0), (0.9, 1.0, 1.0, 0.9), (1.0, 1.0, 1.0, 1.0))
VALUES, LAMBDAS = (0.5, 0.6, 0.2, 0.9), (1.0, 0.95, 0.0)


def estimates() -> dict[str, tuple[float, float, float]]:
    """Of each kind of advantage the mean gradient over all groups of answers to the first prompt that can be drawn.

    Returns:
        Its length, the exact gradient's being 1; its angle to that, in degrees; and the variance of one group's.
    """
    log_N, reward_N = REFERENCE_PN[0], REWARD_PN[0] + HIGHER
    p_N = log_N.exp()
    score_NN = torch.eye(len(p_N)).double() - p_N  # Row n is the gradient of log p(n) by the logits.
    groups = torch.cartesian_prod(*[torch.arange(len(p_N))] * GROUP)
    chance_G, reward_B = log_N[groups].sum(1).exp(), reward_N[groups].flatten()
    exact = (p_N * reward_N) @ score_NN

    def judged(advantage_B: Tensor) -> tuple[float, float, float]:
        each = (advantage_B.view(-1, GROUP, 1) * score_NN[groups]).mean(1)
        mean = chance_G @ each
        cosine = torch.cosine_similarity(mean, exact, dim=0).clamp(-1, 1)
        spread = chance_G @ ((each - mean) ** 2).sum(1)
        return float(mean.norm() / exact.norm()), float(cosine.acos().rad2deg()), float(spread)

    return {
        "nothing": judged(reward_B),
        "the mean of all there are": judged(reward_B - p_N @ reward_N),
        "the mean of the others (RLOO)": judged(rloo_advantages(reward_B, GROUP).advantage_B),
        "the group's mean": judged(grpo_advantages(reward_B, GROUP, divide=False).advantage_B),
        "that, over the deviation (GRPO)": judged(grpo_advantages(reward_B, GROUP).advantage_B),
    }


def group_advantages(rewards: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """GRPO's and RLOO's advantages of the answers of one group: (N,) each."""
    reward_B = torch.tensor(rewards)
    return grpo_advantages(reward_B, len(rewards)).advantage_B, rloo_advantages(reward_B, len(rewards)).advantage_B


def by_token(lam: float) -> Tensor:
    """GAE of an answer of four tokens whose reward, 1, comes with the last one: (T,)."""
    reward_BT, value_BT = torch.tensor([[0.0, 0, 0, 1]]), torch.tensor([VALUES])
    return gae(reward_BT, value_BT, torch.ones(1, 4).bool(), lam=lam)[0]


def explain(lesson: Lesson) -> Iterator[Part]:
    """What is subtracted from a reward, and what it does to the gradient; groups; and GAE, token by token."""
    table = [(name, *(f"{v:.3f}" for v in values)) for name, values in estimates().items()]
    columns = ["what is subtracted", "length", "degrees off", "variance"]
    yield Table(f"The mean gradient of groups of {GROUP} answers, rewards {HIGHER:g} too high", columns, table)
    yield Say(
        "What is subtracted changes no mean if it does not depend on the answer, but it takes most of the variance "
        "away. The mean of the others is such a number. The group's mean has the answer itself in it, which shortens "
        f"the gradient to {GROUP - 1} / {GROUP}; to divide by the deviation turns it as well."
    )
    shown = [[" ".join(f"{v:+.2f}" for v in kind.tolist()) for kind in group_advantages(group)] for group in GROUPS]
    names = [" ".join(f"{reward:g}" for reward in group) for group in GROUPS]
    rows = [(name, *kinds) for name, kinds in zip(names, shown, strict=True)]
    yield Table("The answers of a group", ["rewards", "GRPO", "RLOO"], rows)
    yield Say("To GRPO 0.9 and 1 are as far apart as 0 and 1. Where all rewards are equal, there is nothing to learn.")
    steps = list(zip(VALUES, *(by_token(lam).tolist() for lam in LAMBDAS), strict=True))
    columns = ["value", *(f"λ = {lam:g}" for lam in LAMBDAS)]
    yield Table("An answer's tokens, of which the last brings the reward 1, and a critic's values", columns, steps)
    yield Say("λ = 1 compares a token's value with what came in the end, λ = 0 with the value of the next token.")
