"""A run that begins with another's weights."""

from __future__ import annotations

import json
import time
from math import inf
from pathlib import Path
from typing import Any

import pytest
import torch
from recipes.runs import begin, resume

from quoth.recipes.dial import learning_rate_for
from quoth.recipes.events import Trained
from quoth.recipes.recipe import read_recipe
from quoth.recipes.session import Session
from quoth.recipes.start import start
from quoth.system.errors import InputError
from quoth.train.checkpoint import load
from quoth.train.keeper import kept

pytestmark = pytest.mark.usefixtures("place")


STILL = {"learning_rate": 0.0, "embedding_learning_rate": 0.0, "weight_decay": 0.0}
MACHINE = {"batch": 4, "sample_tokens": 0, "compile": "off", "threads": 1, "dtype": "float32", "device": "cpu"}


def finetuned(**changes: Any) -> Session:
    """A session that begins with `first`, whose shape it is not told."""
    flags = {"data": "text.txt", "init": "first", "steps": 4, **MACHINE, **changes}
    return start("laptop", None, flags, "second", None, time.monotonic())


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load(kept(run, "last")).model.state_dict()


def test_it_begins_with_the_weights_shape_and_tokenizer(place: Path) -> None:
    list(begin("first", steps=5, qk_norm=False).events())
    Path("other.txt").write_text("speak night " * 300)
    session = finetuned(data="other.txt", **STILL)
    list(session.events())
    assert not read_recipe(place / "second").model.qk_norm
    for name, tensor in weights(place / "second").items():
        assert torch.equal(tensor, weights(place / "first")[name])
    assert load(kept(place / "second")).tokenizer.dump() == load(kept(place / "first")).tokenizer.dump()


def test_rates_are_a_tenth_unless_they_are_given(place: Path) -> None:
    session = begin("first", steps=2)
    list(session.events())
    usual, lower = session.recipe.optimizer, finetuned(embedding_learning_rate=0.5).recipe.optimizer
    assert usual.learning_rate > learning_rate_for(inf)
    assert lower.learning_rate == pytest.approx(learning_rate_for(inf) / 10)  # Few steps do not raise it.
    assert lower.embedding_learning_rate == 0.5


def test_an_interrupted_one_goes_on_with_its_own(place: Path) -> None:
    list(begin("first", steps=5).events())
    session = finetuned(steps=8, learning_rate=0.01, checkpoint_every=2)
    for event in session.events():
        if isinstance(event, Trained) and event.step == 5:
            session.stop = "interrupted"
    (place / "first").rename(place / "gone")
    list(resume("second").events())
    assert json.loads((place / "second" / "summary.json").read_text())["steps"] == 8


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"width": 64}, "whose width is 32; leave out --width 64"),
        ({"tokenizer": "bytes"}, "has its own tokenizer; leave out --tokenizer"),
        ({"context": 64}, "reads 32 tokens at most"),
        ({"init": "nowhere"}, "There is no run 'nowhere'"),
    ],
)
def test_what_does_not_fit_is_refused(place: Path, given: dict[str, object], said: str) -> None:
    list(begin("first", steps=2).events())
    with pytest.raises(InputError, match=said):
        finetuned(**given)
    assert not (place / "second").exists()


def test_characters_that_it_never_saw_are_named(place: Path) -> None:
    list(begin("first", steps=2).events())
    Path("other.txt").write_text("Ωω" * 3000)
    with pytest.raises(InputError, match="'Ω' at position 0"):
        finetuned(data="other.txt")


def test_shorter_windows_may_be_taken(place: Path) -> None:
    list(begin("first", steps=2).events())
    session = finetuned(context=16)
    list(session.events())
    assert load(kept(place / "second")).model.config.context == 16
