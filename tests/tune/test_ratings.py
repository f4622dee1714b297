"""Rated answers in batches, and what is said of those that are held out."""

from __future__ import annotations

import pytest
import torch
from train.answers import small

from quoth.system.errors import InputError
from quoth.text.packing import padded
from quoth.train.preferences import answer_log_probs, kto
from quoth.tune.ratings import HeldRatings, RatedBatches, Rating, mismatched

RATINGS = [
    Rating([1, 2], [3, 9], True),
    Rating([4], [5, 6, 9], False),
    Rating([1, 2], [7, 9], False),
    Rating([8], [9], True),
    Rating([4, 4, 4], [2, 9], True),
]
HOW = {"batch": 2, "context": 16, "seed": 1}


def test_no_prompt_keeps_an_answer_of_its_own() -> None:
    rows = mismatched(RATINGS)
    own = {tuple(one.prompt): [b.answer for b in RATINGS if b.prompt == one.prompt] for one in RATINGS}
    assert [prompt for prompt, _ in rows] == [one.prompt for one in RATINGS]
    longest = max(one.longest for one in RATINGS)
    for prompt, answer in rows:
        assert answer and all(list(answer) != list(mine[: len(answer)]) for mine in own[tuple(prompt)])
        assert len(prompt) + len(answer) <= longest


def test_one_prompt_is_too_few() -> None:
    with pytest.raises(InputError, match="needs two prompts"):
        mismatched([RATINGS[0], RATINGS[2]])


def test_a_batch_holds_what_the_objective_wants() -> None:
    model = small().float()
    batches = RatedBatches(RATINGS, model, **HOW)
    seen: list[tuple[int, ...]] = []
    for step in range(5):
        (batch,) = batches[step]
        assert batch.count == 2 and batch.more["mismatched_B"].tolist() == [False, False, True, True]
        with torch.no_grad():
            torch.testing.assert_close(batch.more["reference_B"], answer_log_probs(model, batch))
        for row, good in zip(batch.x_BT[:2].tolist(), batch.more["desirable_B"], strict=False):
            rating = next(r for r in RATINGS if [*r.prompt, *r.answer][:-1] == row[: r.longest - 1] and r.good == good)
            seen.append((*rating.prompt, *rating.answer))
    assert sorted(seen) == sorted([(*r.prompt, *r.answer) for r in RATINGS] * 2)


def test_what_is_held_out_is_judged_by_the_objective() -> None:
    before, after, how = small().float(), small(seed=1).float(), (0.3, 1.5, 0.7)
    held, learned = RATINGS[:3], RATINGS[3:]
    found = HeldRatings(held, learned, before).judge(after, *how, lambda: True)
    others = [(held[0].prompt, [9]), (held[1].prompt, [2, 9]), (held[2].prompt, [9])]
    batch = padded([*others, *(one.row for one in held)])
    with torch.no_grad():
        more = {
            "reference_B": answer_log_probs(before, batch),
            "desirable_B": torch.tensor([False] * 3 + [one.good for one in held]),
            "mismatched_B": torch.tensor([True] * 3 + [False] * 3),
        }
        object.__setattr__(batch, "more", more)
        loss, told = kto(*how)(after, batch)
    assert found["loss"] == pytest.approx(loss.item() / 3, abs=1e-6)
    assert found["accuracy"] == pytest.approx(told["accuracy"].item() / 3)
    assert found["kl"] == pytest.approx(told["kl"].item() / 3, abs=1e-6)
