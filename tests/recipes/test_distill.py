"""Models that learn from a teacher."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from recipes.runs import begin, resume
from recipes.tuned import FLAGS, make_base, tune

from quoth.recipes.events import Evaluated, Trained
from quoth.recipes.session import Session
from quoth.recipes.stage import Judgement
from quoth.recipes.start_tuning import start_tuning
from quoth.system.errors import InputError
from quoth.system.world import World
from quoth.train.checkpoint import load
from quoth.train.keeper import checkpoints, kept

pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture(autouse=True)
def base(place: Path) -> None:
    make_base()


def distill(run: str, data: str, teacher: str, out: str = "taught", **flags: Any) -> Session:
    given = {"data": data, "teacher": teacher, "steps": 12, **FLAGS, **flags}
    return start_tuning("distill", run, None, given, out, time.monotonic(), World())


def judged(session: Session) -> list[Judgement]:
    return [event.judgement for event in session.events() if isinstance(event, Evaluated)]


def test_a_small_student_comes_closer_to_its_teacher_than_by_the_text_alone() -> None:
    list(begin("teacher", steps=150, learning_rate=0.01).events())
    list(begin("small", steps=2, width=16).events())
    taught = judged(distill("small", "text.txt", "teacher", alpha=0.0, steps=80))
    alone = judged(distill("small", "text.txt", "teacher", "alone", alpha=1.0, steps=80))
    assert taught[0].metrics["kl"] == alone[0].metrics["kl"]
    assert taught[-1].metrics["kl"] < alone[-1].metrics["kl"] < alone[0].metrics["kl"]
    assert taught[-1].loss == pytest.approx(taught[-1].metrics["kl"], abs=1e-6)
    assert alone[-1].loss == pytest.approx(alone[-1].metrics["cross_entropy"], abs=1e-6)


def test_a_model_of_texts_stays_one() -> None:
    list(distill("base", "text.txt", "base").events())
    before, after = load(kept(Path("base"))), load(kept(Path("taught")))
    assert after.tokenizer.dump() == before.tokenizer.dump() and not after.tokenizer.template


def test_conversations_teach_answers_and_go_on_to_the_same_bits() -> None:
    list(tune("sft", "answers", steps=40).events())
    whole = judged(distill("base", "chats.jsonl", "answers", "whole"))
    assert {"kl", "cross_entropy", "ended", "distinct"} == whole[-1].metrics.keys()
    assert whole[-1].metrics["kl"] < whole[0].metrics["kl"]
    broken = distill("base", "chats.jsonl", "answers", "broken")
    for event in broken.events():
        if isinstance(event, Trained) and event.step == 5:
            broken.stop = "interrupted"
    list(resume("broken").events())
    ends = (load(checkpoints(Path(run))[0]).model.state_dict() for run in ("whole", "broken"))
    for one, other in zip(*(end.values() for end in ends), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"teacher": ""}, "needs --teacher"),
        ({"teacher": "nobody"}, "There is no run 'nobody'"),
        ({"alpha": 1.5}, r"alpha must lie in \[0, 1\], not 1.5"),
        ({"data": "none.txt"}, "none.txt"),
        ({"data": "chats.jsonl"}, "another tokenizer than base: id 18 is nothing and not '<|system|>'; a teacher of"),
    ],
)
def test_what_cannot_be_distilled_is_said(flags: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        distill("base", **{"data": "text.txt", "teacher": "base", "out": "taught", **flags})
    assert not Path("taught").exists()


def test_a_teacher_must_know_the_students_tokens_and_read_its_rows() -> None:
    Path("other.txt").write_text("zebra quagga xylophone " * 300)
    list(begin("stranger", data="other.txt", steps=1).events())
    with pytest.raises(
        InputError, match=r"The teacher stranger has another tokenizer than base: id 2 is b'b' and not b'd'"
    ):
        distill("base", "text.txt", "stranger")
    list(begin("short", steps=1, context=16).events())
    with pytest.raises(InputError, match="The teacher short reads 16 tokens at most, not rows of 32"):
        distill("base", "text.txt", "short")


def test_a_teacher_that_changed_is_not_gone_on_with() -> None:
    list(begin("teacher", steps=4, checkpoint_every=2, evaluate_every=2).events())
    session = distill("base", "text.txt", "teacher")
    for event in session.events():
        if isinstance(event, Trained):
            session.stop = "interrupted"
    list(resume("teacher", steps=40).events())
    with pytest.raises(InputError, match="teacher has changed since"):
        resume("taught")
