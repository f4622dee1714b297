"""A small model is trained once, tells how far it is, and is trained again where its kept weights are no good."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from quoth.ladder import attention, embedding
from quoth.ladder.attention import Head
from quoth.ladder.lesson import Lesson
from quoth.ladder.rung import Rung
from quoth.system.files import cache_folder
from quoth.text.corpus import Corpus

Told = list[tuple[str, int, int]]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verse: Corpus) -> None:
    monkeypatch.setenv("QUOTH_CACHE", str(tmp_path / "cache"))


def trained(corpus: Corpus, rung: Rung = attention.RUNG, seed: int = 1, steps: int = 3) -> tuple[bytes, Told]:
    """The weights, and what was told of their training."""
    told: Told = []
    lesson = Lesson("the king", corpus, seed, progress=lambda *what: told.append(what))
    model = lesson.trained(rung, steps)
    assert not model.training
    return b"".join(p.detach().numpy().tobytes() for p in model.parameters()), told


def test_training_tells_of_every_step_and_happens_once(verse: Corpus) -> None:
    weights, told = trained(verse)
    assert told == [("training one-head", done, 3) for done in range(4)]
    assert trained(verse) == (weights, [])


def test_what_is_drawn_afterwards_is_the_same(verse: Corpus) -> None:
    drawn = []
    for _ in range(2):
        trained(verse)
        drawn.append(torch.randn(3).tolist())
    assert drawn[0] == drawn[1]


def test_all_that_decides_the_weights_tells_models_apart(verse: Corpus) -> None:
    rung = attention.RUNG
    trained(verse, rung)
    others = [
        {"rung": replace(rung, name="other")},
        {"rung": replace(rung, config={"context": 16})},
        {"rung": replace(rung, config={"dropout": 0.5})},
        {"rung": replace(rung, learning_rate=0.1)},
        {"rung": replace(rung, block=lambda c, scale: Head(c, scale=1.0))},
        {"rung": embedding.RUNG},
        {"seed": 2},
        {"steps": 4},
        {"corpus": replace(verse, train=verse.train[:5000])},
    ]
    for other in others:
        assert trained(**{"corpus": verse, **other})[1], other


@pytest.mark.parametrize("file", ["model.safetensors", "manifest.json"])
@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_damaged_weights_are_made_again(verse: Corpus, file: str, how: str) -> None:
    weights, _ = trained(verse)
    (folder,) = (cache_folder() / "lessons").iterdir()
    whole = (folder / file).read_bytes()
    if how == "gone":
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(whole[:-7] if how == "cut" else whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    again, told = trained(verse)
    assert again == weights and told
    assert (folder / file).read_bytes() == whole and trained(verse) == (weights, [])
    assert list((cache_folder() / "lessons").iterdir()) == [folder]


def test_a_cache_that_cannot_be_written_costs_only_time(verse: Corpus, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    assert trained(verse)[1] and trained(verse)[1]
