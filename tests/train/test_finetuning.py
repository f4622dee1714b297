"""Finetuning learns the examples' targets, and holds plain text to what the reference predicts."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.system.world import World
from quoth.text.batches import Batch, Windows
from quoth.text.packing import Example, PackedRows
from quoth.train.finetuning import finetuning
from quoth.train.objectives import inputs, next_token

VOCABULARY, CONTEXT = 11, 16


def model(seed: int) -> GPT:
    torch.manual_seed(seed)
    made = GPT(family("modern", vocabulary=VOCABULARY, context=CONTEXT, layers=2, width=16, heads=2)).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def rows(world: World | None = None) -> PackedRows:
    rng = np.random.default_rng(0)
    examples = [Example(rng.integers(VOCABULARY, size=7).tolist(), [0.0] * 3 + [1.0] * 4) for _ in range(20)]
    replay = Windows(rng.integers(VOCABULARY, size=300), batch=2, context=CONTEXT, seed=1)
    return PackedRows(examples, batch=4, accumulate=2, context=CONTEXT, seed=1, replay=replay, world=world)


def loss_of_step(policy: GPT, reference: GPT, batches: list[Batch], weight: float) -> torch.Tensor:
    parts = [finetuning(reference, weight)(policy, batch) for batch in batches]
    return sum(part[0] for part in parts) / sum(batch.count for batch in batches)  # type: ignore[return-value]


def test_it_is_the_slow_obvious_sum() -> None:
    policy, reference = model(1), model(2)
    loss = torch.zeros((), dtype=torch.float64)
    for batch in rows()[3]:
        assert batch.weight_BT is not None
        logp_BTV, known_BTV = (m(*inputs(batch)).log_softmax(-1) for m in (policy, reference))
        for b, t in np.ndindex(*batch.y_BT.shape):
            if batch.more["plain_B"][b]:
                loss += 3 * (known_BTV[b, t].exp() * (known_BTV[b, t] - logp_BTV[b, t])).sum().detach()
            elif batch.weight_BT[b, t]:
                loss -= logp_BTV[b, t, batch.y_BT[b, t]].detach()
    targets = sum(batch.count for batch in rows()[3])
    torch.testing.assert_close(loss_of_step(policy, reference, rows()[3], 3.0), loss / targets)


def test_only_examples_count_and_without_weight_it_is_next_token_on_them() -> None:
    policy = model(1)
    for batch in rows()[0]:
        plain_B, weight_BT = batch.more["plain_B"], batch.weight_BT
        assert weight_BT is not None and batch.count == weight_BT[~plain_B].sum()
        alone = Batch(batch.x_BT, batch.y_BT, weight_BT * ~plain_B[:, None], segment_BT=batch.segment_BT)
        loss, told = finetuning(model(2), 0.0)(policy, batch)  # type: ignore[misc]
        torch.testing.assert_close(loss, next_token(policy, alone))
        torch.testing.assert_close(told["answer_loss"], loss.detach())


def test_plain_text_has_no_gradient_until_the_model_has_moved() -> None:
    policy = model(1)
    reference, alone = copy.deepcopy(policy), copy.deepcopy(policy)
    loss_of_step(policy, reference, rows()[0], 5.0).backward()
    loss_of_step(alone, reference, rows()[0], 0.0).backward()
    for one, other in zip(policy.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-12)
    assert all(parameter.grad is None for parameter in reference.parameters())


@pytest.mark.parametrize("size", [2, 4])
def test_processes_share_the_loss_even_where_one_has_plain_text_alone(size: int) -> None:
    policy, reference = model(1), model(2)
    whole = loss_of_step(policy, reference, rows()[1], 2.0)
    shared = [batch for rank in range(size) for batch in rows(World(rank, size))[1]]
    torch.testing.assert_close(loss_of_step(policy, reference, shared, 2.0), whole)
