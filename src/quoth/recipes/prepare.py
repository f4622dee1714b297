"""Prepare a model for training: compile it if that gives right numbers, and replicate it if several processes train."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from quoth.model.gpt import GPT
from quoth.system.device import Hardware
from quoth.system.world import World
from quoth.text.batches import Batch
from quoth.train.checkpoint import bare
from quoth.train.compile import FAST, TRUSTING, compiled
from quoth.train.objectives import Objective
from quoth.train.parallel import is_sharding, own, replicated

# A compiled gradient may differ from the float32 one by NUMBER_TYPE_ERRORS times the error of the number type (its own
# error, or the one that nine tenths of all gradients stay below), plus SHARE of itself and SHARE_OF_LARGEST of the
# largest gradient. In three families, with and without dropout, it was 1.11 times, and in float32 a millionth of the
# gradient.
NUMBER_TYPE_ERRORS, SHARE, SHARE_OF_LARGEST = 2.0, 1e-3, 1e-6


def prepare(
    model: nn.Module,
    objective: Objective,
    example: Callable[[], Batch],
    hardware: Hardware,
    world: World,
    *,
    recompute: bool = False,
) -> tuple[nn.Module, str]:
    """A fast view of the model that shares its parameters; and, if compiling failed, the reason, else "".

    With `recompute` a block keeps only its input. The example goes forward and backward, both compiled and not, before
    training, which changes no weights. So compiling takes no time from a clock's schedule, and wrong numbers of a
    compiler are found.
    """
    why = ""
    if recompute:
        for block in bare(model).blocks:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    for options in (TRUSTING, FAST) if hardware.compile else ():
        try:
            view = compiled(bare(model), options)
            problem = rehearse(view, bare(model), objective, example(), hardware)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            problem = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        model.zero_grad(set_to_none=True)
        if not world.most([float(bool(problem))])[0]:
            return replicated(view, world), ""
        why = problem or "it failed in another process"
    return replicated(model, world), why


def rehearse(view: nn.Module, model: GPT, objective: Objective, example: Batch, hardware: Hardware) -> str:
    """What is wrong with a compiled view's loss or gradients, in words; "" if they are right.

    Each gradient is compared with the uncompiled model's gradient in float32. It may differ from that by as much as the
    number type explains: a few times the difference of an uncompiled gradient in the chosen number type.
    """
    exact = Hardware(hardware.device, "float32", hardware.threads, False, 0.0, {})
    comparable = hardware.device == "cpu" or model.config.dropout == 0  # A GPU's compiled dropout draws other numbers.
    with torch.random.fork_rng(), opinionated(model):
        got = gradients(model, view, objective, example, hardware)
        if not all(g.isfinite().all() for g in got.values()):
            return "its gradients are not finite"
        if not comparable or is_sharding(model):
            return ""
        wanted = gradients(model, model, objective, example, exact)
        misses = {name: float((got[name] - g).norm()) for name, g in wanted.items()}
        explained = dict.fromkeys(wanted, 0.0)
        if hardware.dtype != "float32":
            for name, g in gradients(model, model, objective, example, hardware).items():
                explained[name] = float((wanted[name] - g).norm())
    sizes = {name: float(g.norm()) for name, g in wanted.items()}
    usual = sorted(explained[name] / max(size, 1e-30) for name, size in sizes.items())[len(sizes) * 9 // 10]
    for name, size in sizes.items():
        number_type = NUMBER_TYPE_ERRORS * max(explained[name], min(1.0, usual) * size)
        if not misses[name] <= number_type + SHARE * size + SHARE_OF_LARGEST * max(sizes.values()):
            return f"its {name} is wrong by {misses[name] / max(size, 1e-30):.0%}"
    return ""


def gradients(
    model: GPT, view: nn.Module, objective: Objective, example: Batch, hardware: Hardware
) -> dict[str, Tensor]:
    """A microbatch's mean loss and its gradients, by name, computed through a view of the model."""
    view.train()
    model.zero_grad(set_to_none=True)
    torch.manual_seed(example.seed or 0)
    made = in_precision(objective, hardware)(view, example)
    summed = made[0] if isinstance(made, tuple) else made
    loss = summed / example.count
    loss.backward()  # type: ignore[no-untyped-call]
    found = {f"gradient of {n}": own(p.grad).clone() for n, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **found}


@contextmanager
def opinionated(model: GPT) -> Iterator[None]:
    """Give weight matrices that are zero small random values while the block lasts.

    A new model's projections are zero, so nearly all gradients are zero, and wrong ones would look like right ones.
    """
    with torch.no_grad():
        empty = [p for p in model.parameters() if p.dim() == 2 and not own(p).any()]
        for p in empty:
            own(p).normal_(std=p.shape[1] ** -0.5)
    try:
        yield
    finally:
        with torch.no_grad():
            for p in empty:
                p.zero_()


def in_precision(objective: Objective, hardware: Hardware) -> Objective:
    """The objective, computed in the chosen number type."""

    def with_autocast(model: nn.Module, batch: Batch) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        with hardware.autocast():
            return objective(model, batch)  # type: ignore[return-value]

    return with_autocast
