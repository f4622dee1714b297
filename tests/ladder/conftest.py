"""A small corpus, and a lesson on it."""

import random
from pathlib import Path

import pytest

from quoth.ladder.lesson import Lesson
from quoth.text.corpus import Corpus, corpus

WORDS = ["the", "king", "and", "queen", "of", "sea", "love", "night", "day", "hath", "speak", "thou", "art", "sweet"]


@pytest.fixture(scope="session")
def verse(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    made = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(300)]
    lines = (" ".join(rng.choices(WORDS, k=5) + rng.choices(made, k=2)) + ".\n" for _ in range(1500))
    path: Path = tmp_path_factory.mktemp("verse") / "verse.txt"
    path.write_text("".join(lines), encoding="utf-8")
    return corpus(str(path))


@pytest.fixture
def lesson(verse: Corpus) -> Lesson:
    return Lesson("the king and queen of the sea", verse)
