"""Learning from rewards: the best policy, how far it goes from the reference, and the gradient that leads there."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from quoth.ladder.enumerated import ANSWERS, PROMPTS, REFERENCE_PN, REWARD_PN, Policy, minimize
from quoth.ladder.lesson import Lesson
from quoth.ladder.parts import Curves, Part, Say, Table
from quoth.train.divergence import k1, k3, kl_per_place

BETAS = (10.0, 1.0, 0.5, 0.3, 0.2, 0.1, 0.03)
# A reward model's mistake: it takes the second best answer to the first prompt for the best.
MISTAKEN_PN = REWARD_PN + torch.tensor([[0, 0, 0, 0, 0.85], [0, 0, 0, 0, 0]]).double()


def optimum(beta: float, reward_PN: Tensor = REWARD_PN) -> Tensor:
    """log π* of the best mean reward less β KL: π* is π_ref · exp(reward / β), made to sum to 1. (P, N)."""
    return (REFERENCE_PN + reward_PN / beta).log_softmax(-1)


def kl(log_PN: Tensor) -> Tensor:
    """The KL of the policy from the reference, for each prompt: (P,)."""
    return kl_per_place(log_PN[None], REFERENCE_PN[None])[0]


def reached(beta: float) -> Tensor:
    """log π of the policy that the exact gradient of mean reward less β KL leads to: (P, N)."""
    policy = Policy()
    minimize(policy, lambda: (beta * kl(log := policy.log_probs()) - (log.exp() * REWARD_PN).sum(-1)).sum())
    return policy.log_probs().detach()


def misses(log_PN: Tensor) -> list[tuple[str, float]]:
    """How far the mean gradient of each estimate of the KL is from the KL's own gradient, in units of its length."""
    logit_PN = log_PN.clone().requires_grad_()
    log_PN = logit_PN.log_softmax(-1)
    drawn_PN, ratio_PN = log_PN.exp().detach(), (log_PN - log_PN.detach()).exp()
    one_PN, three_PN = k1(log_PN, REFERENCE_PN), k3(log_PN, REFERENCE_PN)
    means = {
        "k1 in the loss": drawn_PN * one_PN,
        "k1 in the reward": drawn_PN * one_PN.detach() * log_PN,
        "k3 in the loss": drawn_PN * three_PN,
        "k3 times the ratio in the loss": drawn_PN * ratio_PN * three_PN,
        "exact": kl(log_PN),
    }
    *found, exact = (torch.autograd.grad(mean.sum(), logit_PN, retain_graph=True)[0] for mean in means.values())
    return [(name, float((g - exact).norm() / exact.norm())) for name, g in zip(means, found, strict=False)]


def explain(lesson: Lesson) -> Iterator[Part]:
    """The best policy and the one that is reached; a mistaken reward; two directions of the KL; its gradient."""
    shares = (log_PN[0].exp().tolist() for log_PN in (REFERENCE_PN, optimum(1.0), reached(1.0)))
    rows = list(zip(ANSWERS, REWARD_PN[0].tolist(), *shares, strict=True))
    yield Table(f"Answers to {PROMPTS[0]!r}, β = 1", ["answer", "reward", "π_ref", "π*", "by gradient"], rows)
    yield Say("The best policy is π_ref · exp(reward / β), made to sum to 1, and the exact gradient leads to it.")
    best = [optimum(beta, MISTAKEN_PN) for beta in BETAS]
    kls = [float(kl(log_PN)[0]) for log_PN in best]
    rewards = [[float(log_PN[0].exp() @ r_PN[0]) for log_PN in best] for r_PN in (MISTAKEN_PN, REWARD_PN)]
    found = list(zip(BETAS, kls, *rewards, strict=True))
    yield Table(f"The same where {ANSWERS[4]!r} is scored too high", ["β", "KL", "reward", "true reward"], found)
    lines = dict(zip(("reward", "true reward"), rewards, strict=True))
    yield Curves("Reward over KL, one answer scored too high", "KL in nats", "mean reward", kls, lines)
    yield Say(
        "The less the KL costs, the higher the reward, to the end. What people truly like rises only as long as the "
        "policy is near the reference, and then falls: the policy has found the reward's mistake."
    )
    there, back = float(kl(best[3])[0]), float(kl_per_place(REFERENCE_PN[None], best[3][None])[0, 0])
    yield Say(f"The KL is no distance. For β = {BETAS[3]:g}, KL(π, π_ref) = {there:.3f} and KL(π_ref, π) = {back:.3f}.")
    yield Table("The KL's gradient, from answers that are drawn", ["estimate", "missed"], misses(optimum(1.0)))
    yield Say("In the loss k1 does nothing. PPO and RLOO here have it in the reward; GRPO has k3 times the ratio.")
