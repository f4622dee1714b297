import json
import math
from pathlib import Path

import pytest
import torch

from quoth.ladder import topics
from quoth.ladder.judge import sampled_loss
from quoth.recipes import climb as recipe
from quoth.recipes.climb import NAMES, RUNGS, Ladder, record, rungs_named, save
from quoth.system.errors import InputError
from quoth.text.corpus import corpus
from quoth.train.evaluate import evaluate


@pytest.fixture
def verse(tmp_path: Path) -> Path:
    path = tmp_path / "verse.txt"
    path.write_text("the king and the queen of the sea.\n" * 60, encoding="utf-8")
    return path


def climbed(verse: Path, folder: Path, **given: object) -> dict:
    ladder = Ladder(str(verse), folder, **given)
    return record(ladder, "verse", {(name, seed): outcome for name, seed, outcome in ladder.climb()})


def test_the_names_are_known_without_importing() -> None:
    assert NAMES == topics.RUNGS
    assert [rung.lecture_loss for rung in RUNGS.values()] == [2.5, None, 2.4, 2.28, 2.24, 2.08, 2.06]


def test_a_climb_judges_every_rung_by_the_exact_loss(verse: Path, tmp_path: Path) -> None:
    result = climbed(verse, tmp_path, rungs=tuple(RUNGS), seeds=(1, 2), steps=30, faithful=True)
    assert [rung["name"] for rung in result["rungs"]] == list(RUNGS)
    for rung in result["rungs"]:
        losses = [seed["validation_loss"] for seed in rung["seeds"]]
        assert rung["validation_loss"] == pytest.approx(sum(losses) / 2)
        assert rung["spread"] == pytest.approx(max(losses) - min(losses))
        assert rung["validation_loss"] < rung["initial_loss"]
        assert rung["sampled_validation_loss"] == pytest.approx(rung["validation_loss"], abs=0.1)
        assert len(rung["sample"]) == recipe.SAMPLE and rung["steps"] == 30


def test_what_is_filmed_stands_beside_what_is_corrected(verse: Path, tmp_path: Path) -> None:
    given = {"rungs": ("many-heads",), "seeds": (3,), "steps": 20}
    filmed, corrected = (climbed(verse, tmp_path, faithful=f, **given)["rungs"][0] for f in (True, False))
    assert filmed["corrected_loss"] == corrected["validation_loss"] != filmed["validation_loss"]
    assert corrected["corrected_loss"] is corrected["sampled_validation_loss"] is None


def test_the_same_seed_climbs_the_same(verse: Path, tmp_path: Path) -> None:
    first, again = (climbed(verse, tmp_path, rungs=("think",), seeds=(1,), steps=10)["rungs"][0] for _ in range(2))
    assert first["validation_loss"] == again["validation_loss"] and first["sample"] == again["sample"]


def test_the_report_and_the_numbers_are_written(verse: Path, tmp_path: Path) -> None:
    result = climbed(verse, tmp_path, rungs=("bigram", "norm"), seeds=(1,), steps=10)
    page = save(tmp_path, result).read_text(encoding="utf-8")
    assert json.loads((tmp_path / "ladder.json").read_text(encoding="utf-8")) == result
    for rung in result["rungs"]:
        assert rung["name"] in page and f"{rung['validation_loss']:.3f}" in page
    assert "http:" not in page and "https:" not in page and "<script" not in page


@pytest.mark.slow
def test_processes_climb_as_one_does(verse: Path, tmp_path: Path) -> None:
    given = {"rungs": ("bigram",), "steps": 500}
    side_by_side = climbed(verse, tmp_path, seeds=(1, 2), **given)["rungs"][0]["seeds"]
    alone = [climbed(verse, tmp_path, seeds=(seed,), **given)["rungs"][0]["seeds"][0] for seed in (1, 2)]
    for together, one in zip(side_by_side, alone, strict=True):
        assert {**together, "seconds": 0} == {**one, "seconds": 0}


def test_the_sampled_loss_estimates_the_exact_one(verse: Path) -> None:
    verse = corpus(str(verse))
    model = RUNGS["bigram"].model(verse.tokenizer.vocabulary, seed=0, faithful=True)
    exact = evaluate(model, verse.train, verse.tokenizer, context=8).loss
    assert sampled_loss(model, verse.train, 8, seed=0) == pytest.approx(exact, rel=0.02)


def test_a_text_too_short_for_a_rung_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("the king and the queen", encoding="utf-8")
    with pytest.raises(InputError, match="needs at least 9 tokens in both splits"):
        climbed(tmp_path / "short.txt", tmp_path, rungs=("think",), seeds=(1,), steps=1)


def test_an_unknown_rung_suggests_the_nearest() -> None:
    assert rungs_named(None) == NAMES and rungs_named("think") == ("think",)
    with pytest.raises(InputError, match="did you mean 'one-head'"):
        rungs_named("one_head")


@pytest.mark.parametrize("rung", RUNGS.values(), ids=lambda rung: rung.name)
def test_filmed_and_corrected_have_the_same_shape(rung) -> None:
    filmed, corrected = (rung.model(65, 0, faithful=faithful) for faithful in (True, False))
    assert {n: p.shape for n, p in filmed.named_parameters()} == {n: p.shape for n, p in corrected.named_parameters()}
    token_BT = torch.randint(65, (4, 8))
    assert all(math.isfinite(model(token_BT).sum().item()) for model in (filmed, corrected))
