"""A tiny run from beginning to end: what it tells, what it leaves, and how it goes on."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from recipes.runs import begin, resume

from quoth.model.gpt import GPT
from quoth.recipes import session as session_module
from quoth.recipes.events import Evaluated, Event, Note, Sampled, Trained
from quoth.recipes.recipe import read_recipe
from quoth.recipes.session import Session
from quoth.recipes.stage import Judgement
from quoth.system.errors import InputError
from quoth.text.batches import Batch
from quoth.train import checkpoint as checkpoint_module
from quoth.train.checkpoint import load
from quoth.train.keeper import kept, moments, snapshots
from quoth.train.objectives import next_token, token_loss
from quoth.train.run import read_metrics

pytestmark = pytest.mark.usefixtures("place")


def kinds(events: list[Event]) -> list[str]:
    return [type(event).__name__.lower() for event in events if not isinstance(event, Trained)]


def test_what_it_tells() -> None:
    events = list(begin(steps=20, evaluate_every=10).events())
    assert kinds(events) == ["ready", "evaluated", "evaluated", "sampled", "evaluated", "sampled", "finished"]
    steps = [event for event in events if isinstance(event, Trained)]
    assert [event.step for event in steps] == list(range(1, 21))
    assert all(event.tokens_per_second > 0 for event in steps)
    assert [event.progress for event in steps] == pytest.approx([n / 20 for n in range(20)])
    judged = [event.judgement.loss for event in events if isinstance(event, Evaluated)]
    assert judged == sorted(judged, reverse=True)
    assert events[-1].summary["validation_loss"] == judged[-1]
    samples = [event.text for event in events if isinstance(event, Sampled)]
    assert [len(text) for text in samples] == [12, 12]


def test_what_it_leaves(place: Path) -> None:
    session = begin(steps=20, evaluate_every=10)
    (*_, finished) = session.events()
    run = place / "run"
    names = {"config.toml", "metrics.jsonl", "samples", "checkpoints", "environment.json", "summary.json"}
    assert names <= {path.name for path in run.iterdir()}
    assert sorted(path.name for path in (run / "samples").iterdir()) == ["step-000010.txt", "step-000020.txt"]
    assert json.loads((run / "summary.json").read_text()) == finished.summary
    assert read_recipe(run) == session.recipe
    environment = json.loads((run / "environment.json").read_text())
    assert environment["device"] == "cpu"
    assert list(environment["sources"]) == ["text.txt"]
    lines = list(read_metrics(run))
    assert [line["step"] for line in lines if "validation_loss" in line] == [0, 10, 20]
    assert [line["step"] for line in lines if "loss" in line] == [10, 20]
    assert lines[-1]["tokens"] == 20 * 4 * 32
    assert kept(run, "best") == kept(run, "last") == run / "checkpoints" / "step-000020"
    assert load(kept(run)).state["step"] == 20


def test_snapshots_are_kept_and_change_nothing(place: Path) -> None:
    list(begin(steps=30, evaluate_every=10, snapshots=6).events())
    run = place / "run"
    # Shares of 0, 1/512, ..., 0.29 are reached after steps 0, 2, 2, 2, 4 and 10 of 30.
    assert list(moments(run)) == [0, 2, 4, 10, 20, 30]
    assert [folder.name for folder in snapshots(run)] == ["step-000010", "step-000004", "step-000002", "step-000000"]
    early = load(run / "snapshots" / "step-000000")
    assert early.state == {"step": 0, "progress": 0.0}
    assert not (early.folder / "optimizer.safetensors").exists()
    torch.manual_seed(1337)
    assert all(map(torch.equal, early.model.state_dict().values(), GPT(early.model.config).state_dict().values()))
    final = load(kept(run, "last")).model.state_dict()
    run.rename(place / "before")
    list(begin(steps=30, evaluate_every=10, snapshots=0).events())
    assert all(map(torch.equal, load(kept(run, "last")).model.state_dict().values(), final.values()))
    assert not (run / "snapshots").exists()


def test_snapshots_of_a_run_that_is_resumed_are_those_of_one_that_was_not(place: Path) -> None:
    list(begin(steps=200, evaluate_every=100, snapshots=8).events())
    (place / "run").rename(place / "whole")
    session = begin(steps=200, evaluate_every=100, snapshots=8)
    for event in session.events():
        session.stop = "interrupted" if event.step == 40 else ""
    shutil.rmtree(place / "run" / "checkpoints" / "step-000040")  # As if it had been killed before it saved.
    again = resume()
    assert list(again.events())
    assert [folder.name for folder in snapshots(place / "run")] == [f.name for f in snapshots(place / "whole")]
    one, other = (load(snapshots(place / run)[0]).model.state_dict() for run in ("run", "whole"))
    assert all(map(torch.equal, one.values(), other.values()))


def test_snapshots_that_do_not_fit_do_not_end_the_run(place: Path) -> None:
    session = begin(steps=10, snapshots=4)
    (session.folder / "snapshots").write_text("a file is in the way")
    events = list(session.events())
    assert events[-1].summary["stopped"] == "finished"
    assert len([event for event in events if isinstance(event, Note) and "snapshots" in event.text]) == 1


def test_time_decides_when_it_ends() -> None:
    began = time.monotonic()
    (*_, finished) = begin(minutes=0.06).events()
    assert finished.summary["steps"] > 3
    assert time.monotonic() - began < 20


def test_it_goes_on_where_it_stood() -> None:
    session = begin(steps=30, evaluate_every=10)
    for event in session.events():
        session.stop = "interrupted" if event.step == 15 else ""
    assert event.summary["stopped"] == "interrupted"
    assert event.summary["steps"] == 15
    again = resume()
    events = list(again.events())
    assert [event.step for event in events if isinstance(event, Trained)] == list(range(16, 31))
    assert events[-1].summary["stopped"] == "finished"
    assert events[-1].summary["training_seconds"] > event.summary["training_seconds"]


def test_overfitting_is_said_once_and_the_best_is_kept(place: Path) -> None:
    (place / "text.txt").write_text((place / "text.txt").read_text()[:1000])
    events = list(begin(steps=200, evaluate_every=20, learning_rate=0.05, width=64, keep_last=1).events())
    notes = [event.text for event in events if isinstance(event, Note) and "Overfitting" in event.text]
    assert len(notes) == 1
    summary = events[-1].summary
    assert 0 < summary["best_step"] < 200
    assert summary["validation_loss"] < summary["last_validation_loss"]
    assert load(kept(place / "run", "best")).state["step"] == summary["best_step"]
    assert load(kept(place / "run", "last")).state["step"] == 200
    assert sorted(path.name for path in (place / "run/checkpoints").glob("step-*")) == [
        f"step-{summary['best_step']:06d}",
        "step-000200",
    ]
    assert any("Overfitting" in line.get("note", "") for line in read_metrics(place / "run"))


def test_the_rate_is_of_steps_alone() -> None:
    session = begin(steps=4, evaluate_every=1)
    judge = session.stage.judge

    def slow(model: Any, go_on: Any) -> Judgement:
        time.sleep(0.5)
        return judge(model, go_on)

    session.stage = replace(session.stage, judge=slow)
    (*_, finished) = session.events()
    assert finished.summary["training_seconds"] < 1


def test_a_loss_of_nothing_is_a_loss() -> None:
    session = begin(steps=3)
    session.stage = replace(session.stage, judge=lambda model, go_on: Judgement(0.0, {"perplexity": 1.0}))
    (*_, finished) = session.events()
    assert (finished.summary["validation_loss"], finished.summary["perplexity"]) == (0.0, 1.0)


def test_a_session_knows_nothing_of_text(place: Path) -> None:
    """Another stage: numbers that count on, judged by how many it gets right, with a metric beside the loss."""
    session, asked = begin(steps=30, evaluate_every=10), []

    class Counting:
        def __getitem__(self, step: int) -> list[Batch]:
            asked.append(step)
            ids = (torch.arange(33) + torch.arange(4)[:, None] + step) % 7
            return [Batch(ids[:, :-1], ids[:, 1:], seed=step)]

    def objective(model: Any, batch: Batch) -> Any:
        loss_BT = token_loss(model, batch)
        return loss_BT.sum(), {"worst": loss_BT.max() * batch.count}

    def judge(model: Any, go_on: Any) -> Judgement:
        wrong = (model(Counting()[100][0].x_BT).argmax(-1) != Counting()[100][0].y_BT).double().mean().item()
        return Judgement(wrong, {"right": 1 - wrong})

    session.stage = replace(session.stage, batches=Counting(), objective=objective, judge=judge)
    (*_, finished) = session.events()
    assert [step for step in asked if step != 100] == list(range(30))  # A rehearsal asks for none.
    assert finished.summary["right"] == 1 - finished.summary["validation_loss"] > 0.9
    (logged,) = [line for line in read_metrics(place / "run") if "worst" in line and line["step"] == 10]
    assert logged["worst"] >= logged["loss"]


def test_no_samples_where_none_are_wanted(place: Path) -> None:
    assert "sampled" not in kinds(list(begin(steps=5, sample_tokens=0).events()))
    assert not (place / "run/samples").exists()


@pytest.mark.parametrize("steps", [5, 60])
def test_a_loss_that_is_not_finite(steps: int, place: Path) -> None:
    events = []
    with pytest.raises(InputError, match=r"not finite.*a lower --learning-rate than 1e\+30.*Nothing was saved yet"):
        events.extend(begin(steps=steps, learning_rate=1e30, embedding_learning_rate=1e30).events())
    assert any("not finite" in line.get("note", "") for line in read_metrics(place / "run"))


def test_steps_that_are_not_finite_are_left_out_and_said_once() -> None:
    session = begin(steps=20)
    calls = 0

    def sometimes(model: Any, batch: Any) -> Any:
        nonlocal calls
        calls += 1
        return next_token(model, batch) * (float("nan") if 5 <= calls <= 8 else 1.0)

    session.stage = replace(session.stage, objective=sometimes)
    events = list(session.events())
    notes = [event.text for event in events if isinstance(event, Note)]
    assert notes == ["At step 5 (batch 4) the loss is not finite; such steps are left out."]
    assert events[-1].summary["steps"] == 20


def test_a_last_good_checkpoint_is_kept(place: Path) -> None:
    session = begin(steps=200, evaluate_every=10)

    def spoiled(model: Any, batch: Any) -> Any:
        return next_token(model, batch) * (float("nan") if session.state.step > 15 else 1.0)

    session.stage = replace(session.stage, objective=spoiled)
    with pytest.raises(InputError, match=r"since step 17, and going back 3 times did not help; .* checkpoint is kept"):
        list(session.events())
    assert load(kept(place / "run", "last")).state["step"] == 10


def test_a_full_disk_under_the_metrics(place: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    session = begin(steps=5)
    (place / "run/metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"No space is left to write run/metrics\.jsonl"):
        list(session.events())


def test_a_full_disk_under_a_checkpoint(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = begin(steps=20, evaluate_every=10)

    def full(descriptor: int) -> None:
        if session.state.step == 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space is left"):
        list(session.events())
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert load(kept(place / "run", "last")).state["step"] == 10


def room(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free))


def test_a_disk_that_is_too_small_is_said_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    session = begin(steps=5)
    room(monkeypatch, 10_000)
    with pytest.raises(InputError, match=r"A checkpoint of this model takes .* has room for 0.0 MB; give --out"):
        list(session.events())
    assert not session.begun
    assert not session.folder.exists()


def test_a_disk_with_little_room_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    session = begin(steps=5)
    one = 4 * sum(p.numel() for p in session.model.parameters())
    room(monkeypatch, 4 * one)
    notes = [event.text for event in session.events() if isinstance(event, Note)]
    assert len(notes) == 1
    assert notes[0].startswith("The checkpoints that are kept take up to ")


def refuse(monkeypatch: pytest.MonkeyPatch, refused: Callable[[Path], bool]) -> None:
    """Let the disk be full for some files of checkpoints."""
    real = checkpoint_module.save_file

    def save_file(tensors: Any, path: Path) -> None:
        if refused(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(tensors, path)

    monkeypatch.setattr(checkpoint_module, "save_file", save_file)


def test_where_only_the_weights_fit_they_are_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, lambda path: path.name == "optimizer.safetensors")
    events = list(begin(steps=20, evaluate_every=10).events())
    notes = [event.text for event in events if isinstance(event, Note)]
    assert notes[-1].endswith(
        "The weights fitted without the optimizer's state, so the run cannot be resumed from them."
    )
    assert load(kept(place / "run")).state["step"] == 20
    with pytest.raises(InputError, match="holds no optimizer, so a run cannot go on from it"):
        resume()


def test_a_run_goes_on_from_an_older_checkpoint_that_holds_the_optimizer(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, lambda path: path.name == "optimizer.safetensors" and "step-000020" in str(path))
    list(begin(steps=20, evaluate_every=10).events())
    monkeypatch.undo()
    monkeypatch.chdir(place)
    session = resume()
    assert session.state.step == 10
    assert session.remarks == [
        "run/checkpoints/step-000020 holds no optimizer, so a run cannot go on from it. step-000010 is used instead."
    ]
    list(session.events())
    assert load(kept(place / "run", "last")).state["step"] == 20


def test_another_folder_may_be_given_for_the_last_checkpoint(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, lambda path: "elsewhere" not in str(path))
    session, problems = begin(steps=20), []

    def ask(problem: str) -> Path:
        problems.append(problem)
        return place / "elsewhere"

    session.ask_folder = ask
    (*_, finished) = session.events()
    assert len(problems) == 1
    assert problems[0].startswith("No space is left to write run/checkpoints/")
    assert finished.summary["folder"] == str(place / "elsewhere")
    assert load(kept(place / "elsewhere")).state["step"] == 20
    list(resume("elsewhere", steps=25).events())


def test_memory_that_runs_out_while_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(*arguments: object, **rest: object) -> object:
        return torch.empty(2**55)

    session = begin(steps=5)
    monkeypatch.setattr(session_module, "fit", hungry)
    with pytest.raises(InputError, match="Memory ran out with batch 4"):
        list(session.events())


def test_nothing_is_made_for_what_cannot_be_run(place: Path) -> None:
    before = sorted(place.iterdir())
    for change in ({"batch": 10**9}, {"context": 100_000}, {"heads": 3}):
        with pytest.raises(InputError):
            begin(None, steps=5, **change)
    assert sorted(place.iterdir()) == before


def test_evaluations_take_their_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quoth.recipes.timetable.SHORTEST_PAUSE", 0.0)
    monkeypatch.setattr(Session, "_sample", lambda self, progress: (time.sleep(0.1), iter(()))[1])
    events = list(begin(steps=300).events())
    # At 3% a sample of a tenth of a second is worth more than the whole run.
    assert kinds(events).count("evaluated") <= 3
