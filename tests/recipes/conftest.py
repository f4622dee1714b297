"""A place to train in."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of its own with a text of few words."""
    monkeypatch.chdir(tmp_path)
    words = random.Random(0).choices(["king", "queen", "sea", "love", "night", "day", "hath", "speak"], k=4000)
    (tmp_path / "text.txt").write_text(" ".join(words))
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo afterwards what asking for deterministic algorithms sets for the whole process."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    yield
    torch.use_deterministic_algorithms(False)
