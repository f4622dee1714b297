"""Examples packed into rows: equal to the same examples each in a row of its own."""

from __future__ import annotations

import random
from dataclasses import replace
from math import ceil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.system.world import World
from quoth.text.batches import Batch, Windows
from quoth.text.packing import Example, PackedRows, pack, packed_row, padded
from quoth.train.objectives import next_token

VOCABULARY, CONTEXT = 11, 16


def examples(count: int, seed: int = 0, longest: int = CONTEXT) -> list[Example]:
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        length = rng.randint(3, longest)
        answer = rng.randint(1, length - 1)
        ids = [rng.randrange(VOCABULARY) for _ in range(length)]
        made.append(Example(ids, [0.0] * (length - answer) + [1.0] * answer))
    return made


def model(**changes: object) -> GPT:
    torch.manual_seed(0)
    shape = dict(vocabulary=VOCABULARY, context=CONTEXT, layers=2, width=32, heads=2, initialization="torch", **changes)
    return GPT(family(str(shape.pop("family", "modern")), **shape)).double()


@given(st.lists(st.integers(1, 20), max_size=60))
def test_every_item_is_packed_once_into_few_rows(sizes: list[int]) -> None:
    rows = pack(sizes, 20)
    assert sorted(i for row in rows for i in row) == list(range(len(sizes)))
    assert all(sum(sizes[i] for i in row) <= 20 for row in rows)
    assert len(rows) <= 11 / 9 * 2 * ceil(sum(sizes) / 20) + 4


@pytest.mark.parametrize("kind", ["modern", "gpt2", "lecture"])
def test_packed_examples_have_the_loss_and_gradients_of_examples_alone(kind: str) -> None:
    gpt, some = model(family=kind, dropout=0.0), examples(12)
    rows = PackedRows(some, batch=3, context=CONTEXT, seed=1)
    packed = sum(next_token(gpt, one) for one in _all(rows))
    assert isinstance(packed, torch.Tensor)
    packed.backward()
    found = [p.grad.clone() for p in gpt.parameters() if p.grad is not None]
    gpt.zero_grad()
    alone = sum(next_token(gpt, _alone(one)) for one in some)
    assert isinstance(alone, torch.Tensor)
    alone.backward()
    torch.testing.assert_close(packed, alone, rtol=1e-12, atol=1e-12)
    for ours, wanted in zip(found, (p.grad for p in gpt.parameters() if p.grad is not None), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-12)


def _all(rows: PackedRows) -> list[Batch]:
    """Every row once."""
    return [Batch(rows.x_NT, rows.y_NT, rows.weight_NT.double(), segment_BT=rows.segment_NT)]


def _alone(one: Example) -> Batch:
    ids = torch.tensor([one.ids])
    return Batch(ids[:, :-1], ids[:, 1:], torch.tensor([one.weights[1:]]).double())


def test_an_example_does_not_see_its_neighbours() -> None:
    gpt, (first, second) = model(), examples(2, longest=8)
    other = Example([(i + 1) % VOCABULARY for i in first.ids], first.weights)
    losses = []
    for before in (first, other):
        x_T, y_T, weight_T, segment_T = packed_row([before, second], CONTEXT)
        only = weight_T * (segment_T == 1)
        losses.append(next_token(gpt, Batch(x_T[None], y_T[None], only[None].double(), segment_BT=segment_T[None])))
    assert losses[0] == losses[1]


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_step_is_a_function_of_its_number_and_ranks_share_it(noise: float) -> None:
    some, shape = examples(40), {"batch": 4, "accumulate": 2, "context": CONTEXT, "seed": -3, "noise": noise}
    alone = PackedRows(some, **shape)
    pair = [PackedRows(some, **shape, world=World(r, 2)) for r in range(2)]
    for step in (0, 5, 17):
        whole = torch.cat([batch.x_BT for batch in alone[step]])
        assert torch.equal(whole, torch.cat([batch.x_BT for batch in alone[step]]))
        assert torch.equal(whole, torch.cat([batch.x_BT for rows in pair for batch in rows[step]]))
    assert not torch.equal(alone[0][0].x_BT, alone[1][0].x_BT)


@pytest.mark.parametrize("replayed", [False, True])
def test_noise_replaces_a_share_of_the_answers_and_never_a_question_or_an_end(replayed: bool) -> None:
    # Questions are 1 to 3, answers 4 to 6, their ends 7, and the text is of 8 and 9.
    rng = random.Random(0)
    some = [
        Example([*rng.choices((1, 2, 3), k=long), *rng.choices((4, 5, 6), k=4), 7], [0.0] * long + [1.0] * 5)
        for long in rng.choices((1, 2, 3), k=400)
    ]
    replay = Windows(np.arange(8, 400) % 2 + 8, batch=8, context=64, seed=3) if replayed else None
    shape = {"batch": 32, "context": 64, "seed": 3, "replay": replay}
    share, number, quiet, noisy = 0.3, 0, PackedRows(some, **shape), PackedRows(some, **shape, noise=0.3)
    replaced: list[int] = []
    for step in range(4):
        (plain,), (changed,) = quiet[step], noisy[step]
        assert torch.equal(plain.y_BT, changed.y_BT) and torch.equal(plain.weight_BT, changed.weight_BT)
        answers = (plain.x_BT >= 4) & (plain.x_BT <= 6)
        assert torch.equal(plain.x_BT[~answers], changed.x_BT[~answers])
        replaced += changed.x_BT[answers & (plain.x_BT != changed.x_BT)].tolist()
        number += int(answers.sum())
    assert set(replaced) == ({8, 9} if replayed else {4, 5, 6})
    # One of three tokens drawn from the answers is the same as before.
    wanted = share if replayed else share * 2 / 3
    assert abs(len(replaced) / number - wanted) < 4 * (wanted / number) ** 0.5
    assert not torch.equal(noisy[0][0].x_BT, noisy[1][0].x_BT)
    assert all(torch.equal(a.x_BT, b.x_BT) for a, b in zip(quiet.once(8), noisy.once(8), strict=True))


def test_noise_in_answers_of_a_single_token_changes_nothing() -> None:
    shape = {"batch": 2, "context": CONTEXT, "seed": 1}
    quiet, noisy = (PackedRows([Example([1, 2, 3], [0, 0, 1])] * 20, **shape, noise=noise) for noise in (0.0, 0.9))
    assert torch.equal(quiet[0][0].x_BT, noisy[0][0].x_BT)


def test_every_example_is_seen_once_an_epoch() -> None:
    rows = PackedRows(examples(40), batch=2, context=CONTEXT, seed=3)
    steps = int(rows.per_epoch)
    assert steps * 2 == len(rows.x_NT)
    seen = torch.cat([rows[step][0].x_BT for step in range(steps)])
    assert sorted(seen.tolist()) == sorted(rows.x_NT.tolist())


def test_a_share_of_the_rows_is_plain_text() -> None:
    text = np.arange(500) % VOCABULARY
    replay = Windows(text, batch=1, context=CONTEXT, seed=3)
    for world in (World(), World(1, 2)):
        rows = PackedRows(examples(20), batch=4, context=CONTEXT, seed=3, replay=replay, world=world)
        (batch,) = rows[2]
        assert batch.weight_BT is not None and batch.segment_BT is not None
        assert torch.equal(batch.x_BT[-1], replay[2][0].x_BT[0])
        assert batch.weight_BT[-1].all() and not batch.segment_BT[-1].any()


def test_long_examples_are_cut_at_their_end() -> None:
    one = Example(list(range(10)), [0.0] * 5 + [1.0] * 5)
    assert one.cut(7).ids == list(range(8)) and one.cut(7).targets == 3
    assert one.cut(3).targets == 0


def test_padding_changes_nothing() -> None:
    gpt, pairs = model(), [([1, 2, 3], [4, 5]), ([6], [7, 8, 9, 10]), ([1], [2])]
    together = padded(pairs, length=CONTEXT)
    loss = next_token(gpt, replace(together, weight_BT=together.weight_BT.double()))
    alone = sum(next_token(gpt, replace(b, weight_BT=b.weight_BT.double())) for b in (padded([p]) for p in pairs))
    torch.testing.assert_close(loss, alone, rtol=1e-12, atol=1e-12)
    assert together.count == sum(len(answer) for _, answer in pairs)
