import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from quoth.recipes.recipe import make, settings
from quoth.recipes.session import Session
from quoth.system.device import Hardware
from quoth.text.corpus import corpus

HARDWARE = Hardware("cpu", "float32", 1, True, 1e12, {})


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("whole", [0, 8])
def test_a_session_trains_compiled_and_learns_what_it_learns_without(
    whole: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quoth.train.compile.WHOLE_LAYERS", whole)
    text = tmp_path / "book.txt"
    text.write_text("to be or not to be that is the question\n" * 60)
    data = corpus(str(text), cache=tmp_path / "cache")
    shape = {"layers": 2, "width": 32, "heads": 2, "context": 16, "batch": 4, "steps": 5, "sample_tokens": 0}
    recipe = make(settings("laptop", flags=shape), data.tokenizer.vocabulary)
    losses = []
    for compiled in (True, False):
        folder = tmp_path / f"run-{compiled}"
        (folder / "samples").mkdir(parents=True)
        session = Session(recipe, data, replace(HARDWARE, compile=compiled), folder, time.monotonic())
        events = list(session.events())
        assert not [event.text for event in events if event.kind == "note"]
        losses.append(session.evaluation.loss)
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
