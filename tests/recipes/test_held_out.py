"""Tuned runs, judged by what their stages measure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from recipes.tuned import DATA, STAGES, make_base, said, tune, write

from quoth.recipes.compared_prompts import held_out_prompts
from quoth.recipes.events import Evaluated
from quoth.recipes.held_out import judge_held_out, recipe_of
from quoth.recipes.win_rate import WinRate, open_answering, win_rate
from quoth.system.device import Hardware, choose
from quoth.system.errors import InputError
from quoth.text.characters import Bytes
from quoth.text.special import for_chat
from quoth.tune.wilson import wilson

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture(autouse=True)
def base(place: Path) -> None:
    make_base()


@pytest.fixture
def hardware() -> Hardware:
    return choose("cpu", "float32", 1, compile=False)


def ignore(said: str) -> None:
    pass


@pytest.mark.parametrize("stage", STAGES)
def test_a_tuned_run_is_judged_as_it_was_when_it_was_saved(stage: str, hardware: Hardware) -> None:
    events = list(tune(stage, steps=4, evaluate_every=4).events())
    last = [event.judgement for event in events if isinstance(event, Evaluated)][-1]
    found = judge_held_out("tuned", "last", "", hardware, ignore)
    assert found.stage == stage and found.items >= 1 and found.loss_is
    assert found.judgement.loss == pytest.approx(last.loss, abs=1e-6)
    assert found.judgement.metrics == pytest.approx(dict(last.metrics), abs=1e-6)


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "distill"])
def test_a_tuned_run_is_judged_by_all_of_other_rows(stage: str, hardware: Hardware) -> None:
    list(tune(stage, steps=4).events())
    data = Path(DATA.get(stage, "prompts.jsonl"))
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    write("other.jsonl", rows[:7])
    data.unlink()
    assert judge_held_out("tuned", "best", "other.jsonl", hardware, ignore).items == 7


def test_data_that_changed_is_not_judged_by(hardware: Hardware) -> None:
    list(tune("sft", steps=2).events())
    with Path("chats.jsonl").open("a") as file:
        file.write(json.dumps({"messages": [said("user", "day"), said("assistant", "sea")]}) + "\n")
    with pytest.raises(InputError, match=r"chats.jsonl has changed since tuned began with it"):
        judge_held_out("tuned", "best", "", hardware, ignore)
    assert judge_held_out("tuned", "best", "chats.jsonl", hardware, ignore).items == 25


def compared(run: str, other: str, reward: str, hardware: Hardware) -> WinRate:
    (_, one), (_, another) = (open_answering(name, "best", hardware, ignore) for name in (run, other))
    recipe = recipe_of("tuned")
    asked = [one.prompt for one in held_out_prompts(Path("tuned"))]
    return win_rate(one, another, asked, reward, hardware, ignore, tokens=14, seed=recipe.run.seed)


@pytest.fixture
def tuned(base: None) -> None:
    list(tune("sft", steps=80, held_out=0.4).events())


def test_equal_models_tie(tuned: None, hardware: Hardware) -> None:
    found = compared("tuned", "tuned", "rule.py:sea", hardware)
    assert found.ties == found.total > 3 and found.share == 0.5 and found.reward == found.other_reward


def test_what_one_wins_the_other_loses(tuned: None, hardware: Hardware) -> None:
    there, back = (compared(*both, "ends", hardware) for both in (("tuned", "base"), ("base", "tuned")))
    assert there.share > 0.5
    assert there.interval == wilson(there.wins, there.total)
    assert there.reward == back.other_reward


def test_a_reward_model_judges_what_it_can_read(tuned: None, hardware: Hardware) -> None:
    list(tune("reward", "liked", steps=6).events())
    told: list[str] = []
    _, one = open_answering("tuned", "best", hardware, ignore)
    _, other = open_answering("base", "best", hardware, ignore)
    asked = [one.prompt for one in held_out_prompts(Path("tuned"))]
    found = win_rate(one, other, asked, "liked", hardware, told.append, tokens=8, seed=1)
    assert found.total == len(asked) and 0 <= found.share <= 1
    assert any("The reward model liked is right about" in sentence for sentence in told)
    stranger = replace(other, tokenizer=for_chat(Bytes()))
    with pytest.raises(InputError, match="another tokenizer"):
        win_rate(one, stranger, asked, "liked", hardware, ignore, tokens=8, seed=1)


def test_prompts_that_leave_no_room_are_left_out(tuned: None, hardware: Hardware) -> None:
    _, one = open_answering("tuned", "best", hardware, ignore)
    asked = [(said("user", "sea"),), (said("user", "sea"),), (said("user", "sea " * 20),)]
    assert (
        win_rate(one, one, asked, "ends", hardware, ignore, tokens=8, seed=1).left_out == 1
    )  # The same prompt is asked once.
    with pytest.raises(InputError, match="None of 1 prompts leaves room for an answer of 8 tokens in a context of 32"):
        win_rate(one, one, asked[2:], "ends", hardware, ignore, tokens=8, seed=1)
