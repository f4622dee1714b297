"""Making a model ready to be trained through: compiled, and one of several where several train."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from quoth.model.gpt import GPT
from quoth.system.device import Hardware
from quoth.system.world import World
from quoth.text.batches import Batch, BatchSource
from quoth.train.compile import FAST, TRUSTING, compiled
from quoth.train.objectives import Objective
from quoth.train.parallel import replicated


def prepare(
    model: GPT,
    objective: Objective,
    batches: BatchSource,
    hardware: Hardware,
    world: World,
    *,
    recompute: bool = False,
) -> tuple[nn.Module, str]:
    """A view of the model that shares its parameters and runs fast, and why it is not compiled if that failed.

    With `recompute` a block keeps nothing but its input. One forward and backward pass is made that changes nothing, so
    that compiling does not upset a clock's schedule.
    """
    why = ""
    if recompute:
        for block in model.blocks:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    for options in (TRUSTING, FAST) if hardware.compile else ():
        try:
            view = compiled(model, options)
            rehearse(view, objective, batches)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        else:
            return replicated(view, world), ""
    return replicated(model, world), why


def rehearse(view: nn.Module, objective: Objective, batches: BatchSource) -> None:
    """Forward and backward once, and forget it.

    Raises:
        ArithmeticError: a gradient is no number, as a compiler at fault makes them.
    """
    view.train()
    objective(view, batches[0][0]).backward()  # type: ignore[no-untyped-call]
    finite = all(p.grad.isfinite().all() for p in view.parameters() if p.grad is not None)
    view.zero_grad(set_to_none=True)
    if not finite:
        raise ArithmeticError("its gradients are not finite")


def in_precision(objective: Objective, hardware: Hardware) -> Objective:
    """The objective in the chosen number type."""

    def with_autocast(model: nn.Module, batch: Batch) -> Tensor:
        with hardware.autocast():
            return objective(model, batch)

    return with_autocast
