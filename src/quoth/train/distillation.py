"""Distillation: the objective with which a model learns the distributions of another one, its teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from quoth.model.gpt import GPT
from quoth.text.batches import Batch
from quoth.train.checkpoint import bare
from quoth.train.divergence import kl_per_place
from quoth.train.objectives import Objective, counted, inputs

# So many float32 logits of each model are held at once: an eighth of a gigabyte. What a larger batch needs is computed
# part by part, and once more in the backward pass.
LOGITS = 2**25


def distillation(teacher: GPT, temperature: float = 1.0, alpha: float = 0.0, *, logits: int = LOGITS) -> Objective:
    """An objective with which a student learns what its teacher would say at every target that counts.

    It is (1 − α) T² KL(teacher ‖ student) + α cross entropy, where KL compares the next token's distributions at the
    temperature T, whose square keeps the gradient's size as it is at 1 (Hinton et al. 2015, arXiv:1503.02531). The mean
    over the whole vocabulary tells more than one target. Both models see the same ids, so they need one tokenizer; of
    ids that the student lacks the teacher says nothing.

    Args:
        teacher: it is not trained, and computes without dropout.
        temperature: above 1, tokens that the teacher finds unlikely count for more.
        alpha: the weight of the cross entropy with the text itself, from 0 to 1.
        logits: how many logits of each model are held at once.

    Returns:
        An objective. Its metrics are `kl`, at temperature 1 whatever T is, and `cross_entropy`, both in nats.
    """
    teacher.eval().requires_grad_(False)

    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        where_BT = counted(batch)
        weight_N = None if batch.weight_BT is None else batch.weight_BT[where_BT]
        with torch.no_grad():
            teacher_NC = teacher.hidden(*inputs(batch))[where_BT]

        def sums(head: Callable[[Tensor], Tensor], hidden_BTC: Tensor) -> Tensor:
            hidden_NC, target_N = hidden_BTC[where_BT], batch.y_BT[where_BT]
            whole = weight_N if weight_N is not None else torch.ones_like(target_N, dtype=torch.float32)
            size = max(1, logits // teacher.config.vocabulary)
            parts = list(zip(*(torch.split(t, size) for t in (hidden_NC, teacher_NC, target_N, whole)), strict=True))

            def of(hidden_NC: Tensor, teacher_NC: Tensor, target_N: Tensor, weight_N: Tensor) -> Tensor:
                logit_NV = head(hidden_NC)
                teacher_NV = teacher.head(teacher_NC)[:, : logit_NV.shape[1]]
                loss_3N = distilled(logit_NV, teacher_NV, target_N, temperature, alpha)
                return (loss_3N * weight_N).sum(1)

            if len(parts) == 1:
                return of(*parts[0])
            return torch.stack([checkpoint(of, *part, use_reentrant=False) for part in parts]).sum(0)

        with heading(bare(model), sums):
            loss, kl, cross_entropy = model(*inputs(batch))
        return loss, {"kl": kl.detach(), "cross_entropy": cross_entropy.detach()}

    return objective


def distilled(logit_NV: Tensor, teacher_NV: Tensor, target_N: Tensor, temperature: float, alpha: float) -> Tensor:
    """The loss of `distillation` at each place, and without gradient KL and cross entropy at temperature 1: (3, N).

    >>> distilled(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]), torch.tensor([1]), 1.0, 0.5)
    tensor([[0.4020],
            [0.1109],
            [0.6931]])
    """
    logit_NV, teacher_NV = (one if one.dtype == torch.float64 else one.float() for one in (logit_NV, teacher_NV))
    kl_N = kl_per_place(teacher_NV / temperature, logit_NV / temperature)
    cross_N = F.cross_entropy(logit_NV, target_N, reduction="none")
    loss_N = (1 - alpha) * temperature**2 * kl_N + alpha * cross_N
    with torch.no_grad():
        plain_N = kl_N if temperature == 1 else kl_per_place(teacher_NV, logit_NV)
    return torch.stack([loss_N, plain_N.detach(), cross_N.detach()])


@contextmanager
def heading(model: GPT, instead: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> Iterator[None]:
    """Let a model return `instead(head, hidden_BTC)` and not its logits, while the block lasts.

    The head is thus used within the model's own forward pass, on which DDP and FSDP rely.
    """
    head = model.head
    # An attribute of the object goes before a registered module, and leaves that as it is.
    model.__dict__["head"] = lambda hidden_BTC: instead(head, hidden_BTC)
    try:
        yield
    finally:
        del model.__dict__["head"]
