"""The only training loop in the project. A new stage of training is a batch source and an objective."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from quoth.system.errors import InputError
from quoth.system.world import World
from quoth.text.batches import Batch
from quoth.train.objectives import Objective
from quoth.train.optimizers import Together
from quoth.train.schedule import Budget, Steps, trapezoid


class BatchSource(Protocol):
    """Anything whose `[step]` is that step's list of microbatches."""

    def __getitem__(self, step: int) -> list[Batch]: ...


@dataclass(frozen=True)
class Step:
    """What one step did: its mean loss in nats per token before the update, and the gradient's global norm.

    `finite` is false where loss or gradient were not; the weights then stayed as they were.
    """

    number: int
    progress: float
    loss: float
    gradient_norm: float
    multiplier: float
    tokens: float

    @property
    def finite(self) -> bool:
        return abs(self.gradient_norm) + abs(self.loss) < float("inf")


def train_step(
    model: nn.Module, optimizer: Together, micro: list[Batch], objective: Objective, world: World, clip: float = 0.0
) -> tuple[float, float]:
    """Accumulate the gradient of the mean over every microbatch of every rank, and move by it.

    Returns the loss and the gradient's norm. Where either is not finite nothing moves.
    """
    total = world.sum(sum(b.count for b in micro)).item()
    loss = torch.zeros((), device=micro[0].x_BT.device)
    for batch in micro:
        part = objective(model, batch) / total  # Objectives return sums, so masks and ranks stay exact.
        part.backward()  # type: ignore[no-untyped-call]
        loss = loss + part.detach()
    if world.size > 1:
        for p in model.parameters():
            p.grad = None if p.grad is None else world.sum(p.grad)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    loss_value, norm_value = world.sum(loss).item(), norm.item()
    if abs(loss_value) + abs(norm_value) < float("inf"):
        if clip and norm_value > clip:
            torch._foreach_mul_(gradients, clip / norm_value)
        optimizer.step()
    optimizer.zero_grad()
    return loss_value, norm_value


def fit(
    model: nn.Module,
    optimizer: Together,
    batches: BatchSource,
    objective: Objective,
    *,
    steps: int | None = None,
    budget: Budget | None = None,
    schedule: Callable[[float], float] = lambda progress: trapezoid(progress, 0.02, 0.6),
    clip: float = 0.0,
    world: World | None = None,
    first: int = 0,
) -> Iterator[Step]:
    """Train until the budget is used, yielding after each step; evaluate, save and log in the loop that asks.

    Args:
        steps: how many steps; or give a `budget`, such as `Clock(180)`.
        schedule: progress in [0, 1] → share of the peak learning rate.
        first: the number of the first step, where a run goes on.

    >>> for step in fit(model, optimizer, corpus.batches(32, 128), next_token, steps=100):  # doctest: +SKIP
    ...     print(step.number, step.loss)
    """
    world, number = world or World(), first
    if (steps is None) == (budget is None):
        raise InputError("fit needs either steps or a budget.")
    budget = budget or Steps(steps or 0)
    while (progress := budget.progress(number)) < 1:
        micro = batches[number]
        multiplier = schedule(progress)
        optimizer.scale(multiplier)
        model.train()
        loss, norm = train_step(model, optimizer, micro, objective, world, clip)
        number += 1
        yield Step(number, progress, loss, norm, multiplier, sum(b.count for b in micro) * world.size)
