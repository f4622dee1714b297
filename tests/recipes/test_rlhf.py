"""What the demo of the whole way writes for its stages."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quoth.recipes import rlhf
from quoth.recipes.rlhf import Rlhf
from quoth.tune.answers import Answer
from quoth.tune.read import read_conversations, read_preferences, read_prompts
from quoth.tune.reward_function import RewardFunction
from quoth.tune.verse import Verse, held_out, request_of, taste

LINES = "What is this love to me?\nMy sweet and gentle heart is yours.\n" * 3


def demo(folder: Path) -> Rlhf:
    return Rlhf(folder, lambda name, session: None, seed=1)


def test_conversations_and_prompts_are_what_stages_read(tmp_path: Path) -> None:
    examples, prompts = demo(tmp_path)._write_conversations(Verse(LINES))
    found = read_conversations(str(examples))
    assert {one.messages[1]["content"] for one in found} == set(LINES.splitlines())
    asked = {one.prompt[0]["content"] for one in read_prompts(str(prompts))}
    assert asked
    assert not asked & {one.text for one in held_out()}


@pytest.mark.parametrize("errors", [0.0, 0.1])
def test_the_taste_prefers_and_may_err(errors: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rlhf, "open_base", lambda run: SimpleNamespace())
    said = iter(
        [["It is a line of love and peace."] * rlhf.COMPARED, ["It is a line of steel and stone."] * rlhf.COMPARED]
    )

    def answers(base: Any, asked: Any, seed: int) -> list[Answer]:
        return [Answer([1], text, True) for text in next(said)]

    monkeypatch.setattr(rlhf, "_answers", answers)
    made = demo(tmp_path)
    made.errors = errors
    pairs = read_preferences(str(made._write_pairs("run")))
    scores = [
        [
            taste(request_of(one.prompt[0]["content"]), answer[0]["content"]).score
            for answer in (one.chosen, one.rejected)
        ]
        for one in pairs
    ]
    right = sum(chosen > rejected for chosen, rejected in scores) / len(scores)
    assert right == pytest.approx(1 - errors, abs=0.03 if errors else 0)


def test_the_taste_is_a_reward_function(tmp_path: Path) -> None:
    path = tmp_path / "taste.py"
    path.write_text(rlhf.TASTE)
    liked = RewardFunction(path, "liked")
    assert liked(["Ask of love."], ["Is love so sweet a thing?"]) == [1.0]
    liked.close()


def test_the_record_is_json(tmp_path: Path) -> None:
    rlhf.save(demo(tmp_path))
    assert json.loads((tmp_path / "rlhf.json").read_text())["effects"] == []
