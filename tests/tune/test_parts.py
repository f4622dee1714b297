"""Parts of a batch hold each target once, and a sum over them is the sum over the batch."""

from __future__ import annotations

import random

import pytest
import torch
from generate.models import FAMILIES, model

from quoth.model.attention import SHARED
from quoth.text.batches import Batch
from quoth.text.packing import padded
from quoth.train.objectives import counted, inputs, loss_of
from quoth.train.policy import ActorCritic, grpo, ppo
from quoth.tune import parts
from quoth.tune.parts import Part, in_parts
from quoth.tune.rollouts import measure
from quoth.tune.score import scorer_of

VOCABULARY = 9
NAMES = ("old_BT", "advantage_BT", "reference_BT", "value_BT", "return_BT")


def answers(prompts: int, group: int, *, prompt: int = 6, longest: int = 5, seed: int = 0) -> Batch:
    """Answers of different lengths to prompts of different lengths, in no order."""
    rng = random.Random(seed)

    def ids(least: int, most: int) -> list[int]:
        return [rng.randrange(VOCABULARY) for _ in range(rng.randint(least, most))]

    asked = [ids(max(1, prompt - 2), prompt) for _ in range(prompts)] * group
    rng.shuffle(asked)
    batch = padded([(one, ids(1, longest)) for one in asked])
    drawn = torch.Generator().manual_seed(seed)
    more = {name: torch.randn(batch.x_BT.shape, generator=drawn).double() for name in NAMES}
    return Batch(batch.x_BT, batch.y_BT, batch.weight_BT.double(), more=more)


def places(found: list[Part]) -> list[tuple[int, int]]:
    return sorted(
        place
        for part in found
        for mask in [counted(part.batch)]
        for place in zip(part.row_GT[mask].tolist(), part.column_GT[mask].tolist(), strict=True)
    )


def loss(objective, gpt, batches) -> tuple[float, dict[str, float], list[torch.Tensor]]:
    gpt.zero_grad()
    total, told = 0.0, dict.fromkeys(("entropy", "ratio"), 0.0)
    for batch in batches:
        made, beside = objective(gpt, batch)
        made.backward()
        total += made.item()
        told = {name: value + beside[name].item() for name, value in told.items()}
    return total, told, [p.grad.clone() for p in gpt.parameters()]


@pytest.mark.parametrize("logits", [1, 500, 2**25])
@pytest.mark.parametrize(("prompts", "group", "prompt"), [(3, 4, 8), (8, 1, 3), (1, 12, 1), (2, 6, 2)])
def test_each_target_stands_in_one_part(prompts, group, prompt, logits, monkeypatch):
    monkeypatch.setattr(parts, "LOGITS", logits)
    batch = answers(prompts, group, prompt=prompt)
    found = in_parts(batch, VOCABULARY)
    assert places(found) == [tuple(place) for place in counted(batch).nonzero().tolist()]
    assert sum(part.batch.count for part in found) == batch.count
    for part in found:
        assert len(part.batch.x_BT) == 1 or part.batch.x_BT.numel() * VOCABULARY <= logits
    back = torch.zeros_like(batch.y_BT)
    for part in found:
        part.put(part.batch.y_BT, back)
    assert torch.equal(back, batch.y_BT * counted(batch))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("logits", [300, 2**25])
@pytest.mark.parametrize(
    ("prompts", "group", "prompt", "shares"), [(2, 8, 9, True), (12, 1, 9, False), (1, 9, 1, True)]
)
def test_the_loss_of_parts_is_that_of_the_batch(name, prompts, group, prompt, shares, logits, monkeypatch):
    monkeypatch.setattr(parts, "LOGITS", logits)
    gpt, batch = model(name).double(), answers(prompts, group, prompt=prompt)
    found = [part.batch for part in in_parts(batch, VOCABULARY)]
    assert all((part.segment_BT is not None) == shares for part in found)
    assert len(found) == 1 or logits == 300
    objective = grpo(beta=0.1, entropy=0.01)
    torch.testing.assert_close(loss(objective, gpt, found), loss(objective, gpt, [batch]), atol=1e-10, rtol=1e-9)


def test_a_critic_reads_shared_prompts_as_its_own():
    gpt, batch = model("modern").double(), answers(2, 8, prompt=9)
    critic = scorer_of(gpt).double()
    torch.nn.init.normal_(critic.head.weight)
    both, found = ActorCritic(gpt, critic), [part.batch for part in in_parts(batch, VOCABULARY)]
    assert found[0].segment_BT is not None
    torch.testing.assert_close(loss(ppo(), both, found), loss(ppo(), both, [batch]), atol=1e-10, rtol=1e-9)


def test_shared_prompts_take_fewer_tokens_and_no_row_is_long(monkeypatch):
    batch = answers(2, 40, prompt=9)
    monkeypatch.setattr(parts, "ROW", 60)
    found = in_parts(batch, VOCABULARY)
    assert sum(part.batch.x_BT.numel() for part in found) < 0.6 * batch.x_BT.numel()
    assert max(part.batch.x_BT.shape[1] for part in found) <= 60
    begun = [part.batch.x_BT[part.batch.segment_BT == SHARED] for part in found]
    assert all(len(tokens) for tokens in begun)


def test_what_does_not_count_is_left_out():
    batch = answers(3, 1)
    batch.weight_BT[1] = 0
    assert {row for part in in_parts(batch, VOCABULARY) for row, _ in places([part])} == {0, 2}
    batch.weight_BT.zero_()
    (nothing,) = in_parts(batch, VOCABULARY)
    assert nothing.batch.count == 0


@pytest.mark.parametrize(("prompts", "group"), [(2, 8), (10, 1)])
def test_what_is_measured_is_what_the_models_say_of_each_answer(prompts, group):
    policy, reference, batch = model("modern"), model("modern"), answers(prompts, group, prompt=9)
    with torch.no_grad():
        reference.head.weight *= 0.5
        seen = measure(policy, reference, batch)
        wanted = [-loss_of(one(*inputs(batch)), batch.y_BT) * counted(batch) for one in (policy, reference)]
    torch.testing.assert_close([seen.policy_BT, seen.reference_BT], wanted, atol=1e-5, rtol=1e-5)
    assert not seen.kl_BT[~counted(batch)].any()
    assert (seen.entropy_BT[counted(batch)] > 0).all()
