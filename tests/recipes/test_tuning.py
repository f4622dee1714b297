"""Runs that tune another run's model: each stage learns, is judged, stops and goes on to the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from recipes.runs import resume
from recipes.tuned import STAGES, WORDS, make_base, said, tune, write

from quoth.recipes.events import Evaluated, Trained
from quoth.recipes.tune_config import TuneConfig
from quoth.recipes.tuning import KINDS, check_processes
from quoth.system.errors import InputError
from quoth.system.world import World
from quoth.train.checkpoint import load
from quoth.train.keeper import checkpoints, kept
from quoth.train.run import read_metrics
from quoth.tune.score import load_scorer

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture(autouse=True)
def base(place: Path) -> None:
    make_base()


def saved(run: str) -> dict[str, bytes]:
    folder = checkpoints(Path(run))[0]
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_learns_and_goes_on_after_a_break_to_the_same_bits(stage: str) -> None:
    events = list(tune(stage, "whole").events())
    judged = [event.judgement for event in events if isinstance(event, Evaluated)]
    assert len(judged) >= 2
    broken = tune(stage, "broken")
    for event in broken.events():
        if isinstance(event, Trained) and event.step == 5:
            broken.stop = "interrupted"
    assert broken.state.step == (8 if stage in ("ppo", "grpo", "rloo") else 5)
    list(resume("broken").events())
    assert saved("broken") == saved("whole")


def test_what_does_not_fit_is_left_out_and_said() -> None:
    with Path("chats.jsonl").open("a") as file:
        file.write(json.dumps({"messages": [said("user", "day " * 20), said("assistant", "sea")]}) + "\n")
    assert tune("sft").remarks == ["1 of 25 conversations are left out, since they do not fit into the context."]


def test_every_stage_is_tested() -> None:
    assert STAGES.keys() == KINDS.keys()


def test_finetuning_lowers_the_loss_on_answers_it_has_not_seen() -> None:
    events = list(tune("sft", steps=100).events())
    judged = [event.judgement for event in events if isinstance(event, Evaluated)]
    assert judged[-1].loss < judged[0].loss - 0.5
    assert judged[-1].metrics["ended"] > 0.5 >= judged[0].metrics["ended"]
    assert judged[-1].metrics["copied"] > 0.05 > judged[0].metrics["copied"] == 0
    known = load(kept(Path("tuned")))
    assert known.tokenizer.template and list(known.tokenizer.ends) == [known.tokenizer.special["<|end|>"]]


def test_a_reward_model_is_not_a_language_model() -> None:
    list(tune("reward").events())
    folder = kept(Path("tuned"))
    assert load_scorer(folder).model(torch.zeros(1, 3, dtype=torch.long)).shape == (1, 3, 1)
    with pytest.raises(InputError, match="holds a reward model, but a language model is needed here"):
        load(folder)


def test_answers_that_are_rated_good_become_likelier_than_bad_ones() -> None:
    rates = {"learning_rate": 3e-3, "embedding_learning_rate": 3e-3}
    rows = [{"prompt": one, "chosen": f"sea {one}", "rejected": f"{one} night"} for one in WORDS * 4]
    write("pairs.jsonl", rows)
    events = list(tune("kto", data="pairs.jsonl", steps=40, seed=4, **rates).events())
    first, *_, last = [event.judgement for event in events if isinstance(event, Evaluated)]
    assert first.loss == pytest.approx(0.5, abs=1e-6) and first.metrics["accuracy"] == 0.5
    assert last.loss < first.loss - 0.05
    assert last.metrics["accuracy"] > 0.7
    assert {"kl", "ended", "distinct"} <= last.metrics.keys()


def test_good_and_bad_answers_weigh_the_same_together() -> None:
    session = tune("kto")
    labels = [rating.good for rating in session.stage.batches.ratings]
    tuned = session.recipe.tune
    assert tuned.desirable_weight * sum(labels) == pytest.approx(tuned.undesirable_weight * labels.count(False))
    assert min(tuned.desirable_weight, tuned.undesirable_weight) == 1.0
    assert tune("kto", "other", desirable_weight=3.0).recipe.tune.desirable_weight == 3.0


def test_a_policy_learns_what_is_rewarded() -> None:
    rates = {"learning_rate": 3e-3, "embedding_learning_rate": 3e-3}
    reward = {"reward": "rule.py:letter", "unfinished": 1.0, "beta": 0.0}  # Hardly any answer ends yet.
    list(tune("grpo", steps=60, answers=32, **rates, **reward).events())
    rewards = [line["reward"] for line in read_metrics(Path("tuned")) if "reward" in line]
    assert len(rewards) == 15
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.2
    logged = next(line for line in read_metrics(Path("tuned")) if "reward" in line)
    assert {"kl", "entropy", "length", "ended", "distinct", "equal_groups"} <= logged.keys()


def test_ppo_learns_from_a_reward_model_and_begins_its_critic_with_it() -> None:
    list(tune("reward", "liked").events())
    session = tune("ppo", "tuned", reward="liked", true_reward="rule.py:sea", anyway=True)
    critic = session.model.critic
    scorer = load_scorer(kept(Path("liked"))).model
    begun = {name: tensor.clone() for name, tensor in critic.state_dict().items()}
    for name, tensor in scorer.state_dict().items():
        if name == "head.weight":  # Rewards are scores in another unit.
            unit = tensor[0, 0] / begun[name][0, 0]
            torch.testing.assert_close(begun[name] * unit, tensor)
        else:
            assert torch.equal(begun[name], tensor)
    list(session.events())
    assert not any(torch.equal(begun[name], tensor) for name, tensor in critic.state_dict().items())
    logged = [line for line in read_metrics(Path("tuned")) if "reward" in line]
    assert {"true_reward", "explained_variance"} <= logged[0].keys()


@pytest.mark.parametrize(
    ("stage", "flags", "told"),
    [
        ("sft", {"data": "nowhere.jsonl"}, "nowhere.jsonl"),
        ("ppo", {"reward": ""}, "needs --reward"),
        ("grpo", {"group": 3}, "answers must be a multiple of group"),
        ("sft", {"replay": 1.0}, "replay is a share"),
        ("dpo", {"shard": True, "lora": 2}, "--shard true spreads all weights, and --lora trains few"),
        ("grpo", {"shard": True}, "writes answers with the whole model; leave out --shard"),
    ],
)
def test_what_cannot_be_tuned_is_said(stage: str, flags: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        tune(stage, **flags)
    assert not Path("tuned").exists()


def test_a_parameter_that_would_not_be_trained_is_refused_by_name() -> None:
    session = tune("dpo")
    session.model.extra = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(InputError, match="does not depend on extra"):
        list(session.events())


@pytest.mark.parametrize("stage", ["grpo", "rloo", "ppo"])
def test_processes_that_would_have_nothing_to_answer_are_too_many(stage: Any) -> None:
    config = TuneConfig(stage=stage, reward="ends", answers=16, group=8, minibatches=2)
    check_processes(config, World(size=2), sharded=False)
    with pytest.raises(InputError, match="cannot share 16 answers in groups of"):
        check_processes(config, World(size=9), sharded=False)


def test_a_characters_model_that_was_tuned_is_called_so() -> None:
    session = tune("sft")
    assert session.stage.tokenizer.name == session.recipe.data.tokenizer == "characters+special"


def test_a_reward_model_that_is_often_wrong_is_refused() -> None:
    list(tune("reward", "liked", steps=1, learning_rate=0.0, embedding_learning_rate=0.0).events())
    with pytest.raises(InputError, match="is right about 50% of held-out pairs; below 75%"):
        tune("ppo", reward="liked")


def test_data_that_changed_is_not_gone_on_with() -> None:
    session = tune("sft")
    for event in session.events():
        if isinstance(event, Trained):
            session.stop = "interrupted"
    with Path("chats.jsonl").open("a") as file:
        file.write(json.dumps({"messages": [said("user", "day"), said("assistant", "sea")]}) + "\n")
    with pytest.raises(InputError, match=r"chats.jsonl has changed since"):
        resume("tuned")
