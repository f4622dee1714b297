"""The only training loop in the project. A new stage of training needs only a batch source and an objective."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf, nan
from typing import NamedTuple

import torch
from torch import Tensor, nn

from quoth.system.errors import InputError
from quoth.system.world import World
from quoth.text.batches import Batch, BatchSource
from quoth.train.objectives import Objective
from quoth.train.optimizers import Together
from quoth.train.parallel import full_tensor, synchronize
from quoth.train.schedule import Budget, Steps, trapezoid
from quoth.train.spikes import Spikes


@dataclass(frozen=True)
class Step:
    """The result of one step: its mean loss in nats per token before the update, and the gradient's global norm.

    Attributes:
        number: how many steps are done, this one included.
        progress: the share of the budget that was used before the step.
        multiplier: the step's learning rate as a share of the peak.
        tokens: how many targets of all processes counted towards the loss.
        moved: whether the weights moved. They do not if loss or gradient is not finite, the loss is a spike, or no
            target counts (the loss is then NaN).
        metrics: what the objective reports beside its sum, each as a mean over those targets.
        seconds: how long the step took, with its batch.
    """

    number: int
    progress: float
    loss: float
    gradient_norm: float
    multiplier: float
    tokens: float
    moved: bool = True
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


class Update(NamedTuple):
    """The result of `train_step`; see `Step`."""

    tokens: float
    loss: float
    gradient_norm: float
    moved: bool
    metrics: Mapping[str, float]


def train_step(
    model: nn.Module,
    optimizer: Together,
    micro: list[Batch],
    objective: Objective,
    world: World,
    clip: float = 0.0,
    limit: float = inf,
) -> Update:
    """Accumulate the gradient of the mean loss over all microbatches of all ranks, and move the weights by it.

    The weights do not move if no target counts, the loss or norm is not finite, or the loss is above `limit`. All ranks
    have the same count, loss and norm, so they make the same decision.
    """
    total = world.sum(sum(b.count for b in micro)).item()
    if not total:
        return Update(total, nan, nan, False, {})
    loss = torch.zeros((), device=micro[0].x_BT.device)
    metrics: dict[str, Tensor] = defaultdict(lambda: torch.zeros_like(loss))
    for number, batch in enumerate(micro, 1):
        if world.size > 1:
            synchronize(model, number == len(micro))
        if batch.seed is not None:
            torch.manual_seed(batch.seed)  # So dropout, too, is a function of the step.
        made = objective(model, batch)
        summed, beside = made if isinstance(made, tuple) else (made, {})
        part = summed / total  # Objectives return sums, so masks and ranks stay exact.
        part.backward()  # type: ignore[no-untyped-call]
        for name, value in beside.items():
            metrics[name] = metrics[name] + value.detach() / total
        loss = loss + part.detach()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = full_tensor(torch.nn.utils.get_total_norm(gradients))
    loss_value, norm_value = world.sum(loss).item(), norm.item()
    if moves := abs(loss_value) + norm_value < inf and loss_value <= limit:
        if clip and norm_value > clip:
            torch._foreach_mul_(gradients, clip / norm_value)
        optimizer.step()
    optimizer.zero_grad()
    told = {name: world.sum(value).item() for name, value in metrics.items()}
    return Update(total, loss_value, norm_value, moves, told)


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
    spikes: Spikes | None = None,
) -> Iterator[Step]:
    """Train until the budget is used, and yield after each step; the caller's loop evaluates, saves and logs.

    Before each step every part of the model is put into training mode, since the caller may have evaluated it.

    Args:
        steps: how many steps to train; or give a `budget`, such as `Clock(180)`.
        schedule: a function from progress in [0, 1] to a share of the peak learning rate.
        world: the processes that train; if there are several, `model` is the result of `replicated`.
        first: the number of steps that a resumed run has done already.
        spikes: decides which losses are too large to learn from; without it the model learns from every finite loss.

    >>> for step in fit(model, optimizer, corpus.batches(32, 128), next_token, steps=100):  # doctest: +SKIP
    ...     print(step.number, step.loss)
    """
    world, number = world or World(), first
    if (steps is None) == (budget is None):
        raise InputError("fit needs either steps or a budget.")
    budget = budget or Steps(steps or 0)
    while (progress := world.most([budget.progress(number)])[0]) < 1:
        began = time.monotonic()
        micro = batches[number]
        multiplier = schedule(budget.middle(number, progress))
        optimizer.scale(multiplier)
        model.train()
        limit = spikes.limit if spikes else inf
        done = train_step(model, optimizer, micro, objective, world, clip, limit)
        if spikes and done.moved:
            spikes.see(done.loss)
        number += 1
        told = {**done._asdict(), "seconds": time.monotonic() - began}
        yield Step(number=number, progress=progress, multiplier=multiplier, **told)
