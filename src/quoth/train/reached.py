"""Find trainable parameters that a loss does not depend on, which training would silently leave as they are."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from quoth.system.errors import InputError
from quoth.text.batches import Batch
from quoth.train.objectives import Objective
from quoth.train.parallel import is_sharding


def unreached(loss: Tensor, model: nn.Module) -> list[str]:
    """The names of the trainable parameters of a model from which no path leads to the loss.

    >>> used, unused = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    >>> unreached(used(torch.ones(1)).sum(), nn.Sequential(used, unused))
    ['1.weight']
    """
    seen, found = set(), set[int]()
    nodes = [loss.grad_fn] if loss.grad_fn else []
    while nodes:
        node = nodes.pop()
        if node in seen:
            continue
        seen.add(node)
        if (leaf := getattr(node, "variable", None)) is not None:
            found.add(id(leaf))
        nodes += [before for before, _ in node.next_functions if before is not None]
    return [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in found]


def reaching_all(objective: Objective, model: nn.Module) -> Objective:
    """The objective, which at its first use refuses a loss that does not depend on all trainable parameters of `model`.

    Of a model whose parameters are spread over processes nothing can be said, since its graph holds gathered ones.
    """
    looked = False

    def checked(view: nn.Module, batch: Batch) -> Tensor | tuple[Tensor, Mapping[str, Tensor]]:
        nonlocal looked
        made = objective(view, batch)
        loss = made[0] if isinstance(made, tuple) else made
        if not looked and torch.is_grad_enabled() and loss.requires_grad:
            if not any(map(is_sharding, model.modules())) and (names := unreached(loss, model)):
                raise InputError(
                    f"The loss does not depend on {' and '.join(names[:3])}, so that {len(names):,} of the model's "
                    "trainable parameters would not be trained; use them, or freeze them."
                )
            looked = True
        return made

    return checked
