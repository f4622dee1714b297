import copy
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from quoth.model.gpt import GPT
from quoth.recipes.events import Evaluated, Note
from quoth.recipes.pretraining import pretraining
from quoth.recipes.recipe import make, settings
from quoth.recipes.session import Session
from quoth.system.device import Hardware
from quoth.system.world import World
from quoth.text.corpus import corpus
from quoth.train.compile import FAST, TRUSTING

HARDWARE = Hardware("cpu", "float32", 1, True, 1e12, {})


def small_session(folder: Path, hardware: Hardware, **changes: object) -> Session:
    text = folder / "book.txt"
    text.write_text("to be or not to be that is the question\n" * 60)
    data = corpus(str(text), cache=folder / "cache")
    shape = {"layers": 2, "width": 32, "heads": 2, "context": 16, "batch": 4, "steps": 5, "sample_tokens": 0}
    recipe = make(settings("laptop", flags=shape | changes), data.tokenizer.vocabulary)
    run = folder / f"run-{hardware.compile}"
    (run / "samples").mkdir(parents=True)
    return Session(recipe, pretraining(recipe, data, hardware, World()), hardware, run, time.monotonic())


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize(("whole", "careful"), [(0, False), (8, False), (0, True), (8, True)])
def test_a_session_trains_compiled_and_learns_what_it_learns_without(
    whole: int, careful: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quoth.train.compile.WHOLE_LAYERS", whole)
    losses = []
    for compiled in (True, False):
        how = {"recompute": careful and compiled, "deterministic": careful and compiled}
        session = small_session(tmp_path, replace(HARDWARE, compile=compiled), **how)
        events = list(session.events())
        assert not [event.text for event in events if isinstance(event, Note)]
        losses.append(session.state.validation_loss)
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


@pytest.mark.parametrize("broken", [1, 2])
def test_a_failed_compilation_is_tried_with_care_and_then_done_without_and_written_down(
    broken: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[dict[str, object]] = []

    def fragile(model: GPT, options: dict[str, object]) -> GPT:
        tried.append(options)
        if len(tried) > broken:
            return model
        view = copy.copy(model)
        view.forward = lambda ids: 1 / 0  # type: ignore[method-assign, assignment]
        return view

    monkeypatch.setattr("quoth.recipes.prepare.compiled", fragile)
    session = small_session(tmp_path, HARDWARE)
    notes = [event.text for event in session.events() if isinstance(event, Note)]
    assert tried == [TRUSTING, FAST]
    assert session.state.step == 5
    expected = ["torch.compile failed, so training goes on without it: division by zero."] if broken == 2 else []
    assert notes == expected
    written = [json.loads(line).get("note") for line in (session.folder / "metrics.jsonl").read_text().splitlines()]
    assert [note for note in written if note] == expected


def test_gradients_that_are_no_numbers_are_not_trained_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: GPT, options: dict[str, object]) -> GPT:
        view = copy.copy(model)
        view.forward = lambda ids: model(ids) * torch.nan  # type: ignore[method-assign]
        return view

    monkeypatch.setattr("quoth.recipes.prepare.compiled", broken)
    session = small_session(tmp_path, HARDWARE)
    notes = [event.text for event in session.events() if isinstance(event, Note)]
    assert notes == ["torch.compile failed, so training goes on without it: its gradients are not finite."]
    assert session.state.step == 5


class Scaled(torch.autograd.Function):
    """Passes values on, and gradients times 1.05."""

    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return 1.05 * gradient


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_that_are_wrong_are_not_trained_with(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: GPT, options: dict[str, object]) -> GPT:
        view = copy.copy(model)
        view.forward = lambda ids: Scaled.apply(model(ids))  # type: ignore[method-assign]
        return view

    session = small_session(tmp_path, replace(HARDWARE, dtype=dtype))
    before = [p.clone() for p in session.model.parameters()]
    monkeypatch.setattr("quoth.recipes.prepare.compiled", broken)
    (note,) = notes_before_the_first_step(session)
    assert note.startswith("torch.compile failed, so training goes on without it: its gradient of ")
    assert note.endswith("is wrong by 5%.")
    assert all(torch.equal(p, b) and p.grad is None for p, b in zip(session.model.parameters(), before, strict=True))


def notes_before_the_first_step(session: Session) -> list[str]:
    notes = []
    for event in session.events():
        if isinstance(event, Note):
            notes.append(event.text)
        if isinstance(event, Evaluated):
            break
    return notes
