"""A run that was stopped goes on to the same bits, or says what has changed; for longer where that is asked for."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from recipes.runs import begin, resume

from quoth.recipes import resume as resuming
from quoth.recipes.events import Evaluated, Event, Finished, Note, Ready, Trained
from quoth.recipes.recipe import read_recipe
from quoth.recipes.session import PATIENCE, Session
from quoth.recipes.state import RunState
from quoth.system.errors import InputError
from quoth.train.keeper import checkpoints, kept
from quoth.train.objectives import next_token
from quoth.train.run import read_metrics

pytestmark = pytest.mark.usefixtures("place")


def digests(run: Path, which: str = "last") -> dict[str, str]:
    """The sha256 of a checkpoint's weights and optimizer."""
    files: dict[str, str] = json.loads((kept(run, which) / "manifest.json").read_text())["files"]
    return {name: files[name] for name in ("model.safetensors", "optimizer.safetensors")}


def until(session: Session, step: int, stop: str = "interrupted") -> list[Event]:
    """Its events, where it is stopped after a step."""
    events = []
    for event in session.events():
        events.append(event)
        if isinstance(event, Trained) and event.step == step:
            session.stop = stop  # type: ignore[assignment]
    return events


def killed(session: Session, step: int) -> None:
    """As kill -9 would end it: nothing is done after a step."""
    for event in session.events():
        if isinstance(event, Trained) and event.step == step:
            break
    session.checkpoints.settle()


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_goes_on_to_the_same_bits(place: Path, optimizer: str, dtype: str) -> None:
    changes = dict(steps=24, optimizer=optimizer, dtype=dtype, dropout=0.1, checkpoint_every=5, accumulate=2, layers=2)
    list(begin("through", **changes).events())
    killed(begin(**changes), 13)
    assert checkpoints(place / "run")[0].name == "step-000010"
    session = resume()
    assert session.state.step == 10
    killed(session, 18)
    until(resume(), 21)
    list(resume().events())
    assert digests(place / "run") == digests(place / "through")
    # Each step's loss is told once.
    steps = [line["step"] for line in read_metrics(place / "run") if "loss" in line]
    assert steps == [10, 20]


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_with_deterministic_algorithms_and_blocks_computed_again_the_bits_are_the_same(place: Path, dtype: str) -> None:
    changes = dict(steps=8, dtype=dtype, dropout=0.2, layers=2, checkpoint_every=3)
    list(begin("plain", **changes).events())
    killed(begin(**changes, deterministic=True, recompute=True), 5)
    list(resume().events())
    assert torch.are_deterministic_algorithms_enabled()
    assert digests(place / "run") == digests(place / "plain")


def test_each_step_draws_its_own_dropout(place: Path) -> None:
    changes = dict(steps=6, dropout=0.3)
    list(begin("one", **changes).events())
    list(begin("two", **changes, seed=1338).events())
    torch.manual_seed(0)
    list(begin("three", **changes).events())
    assert digests(place / "one") == digests(place / "three") != digests(place / "two")


def test_without_a_checkpoint_it_begins_anew(place: Path) -> None:
    list(begin("through", steps=12).events())
    killed(begin(steps=12), 3)
    events = list(resume().events())
    assert [event.text for event in events if isinstance(event, Note)] == [
        "There was no checkpoint yet, so the run starts from the beginning."
    ]
    assert digests(place / "run") == digests(place / "through")


def test_from_a_broken_checkpoint_it_goes_on_with_the_one_before(place: Path) -> None:
    changes = dict(steps=20, checkpoint_every=5)
    list(begin("through", **changes).events())
    killed(begin(**changes), 12)
    broken = checkpoints(place / "run")[0] / "optimizer.safetensors"
    broken.write_bytes(broken.read_bytes()[:-3])
    events = list(resume().events())
    (note,) = [event.text for event in events if isinstance(event, Note)]
    assert note.endswith("was changed since it was saved. step-000005 is used instead.")
    assert digests(place / "run") == digests(place / "through")


def test_a_finished_run_can_be_made_longer(place: Path) -> None:
    (*_, finished) = begin(steps=10).events()
    events = list(resume().events())
    assert not [event for event in events if isinstance(event, Trained)]
    for key in ("steps", "validation_loss", "best_step"):
        assert events[-1].summary[key] == finished.summary[key]
    (*_, longer) = resume(steps=15, evaluate_every=5).events()
    assert longer.summary["steps"] == 15
    assert read_recipe(place / "run").run.steps == 15
    text = (place / "run/config.toml").read_text()
    assert "flag, when it was resumed" in text
    assert "as it began" in text
    (*_, by_time) = resume(minutes=4.0 / 60 + longer.summary["seconds"] / 60).events()
    assert by_time.summary["steps"] > 15


def test_minutes_go_on_with_what_was_left(place: Path) -> None:
    session = begin(minutes=0.1)
    until(session, 5)
    used = session.state.seconds
    assert 0 < used < 6
    session = resume()
    assert time.monotonic() - session.started == pytest.approx(used, abs=1.0)
    (*_, finished) = session.events()
    assert finished.summary["seconds"] < 9


def test_a_run_goes_on_as_it_began(place: Path) -> None:
    killed(begin(steps=10, checkpoint_every=5), 7)
    with pytest.raises(InputError, match="leave out --learning-rate, --seed"):
        resume(learning_rate=0.1, seed=2)
    with pytest.raises(InputError, match="minutes or steps, not both"):
        resume(minutes=1.0, steps=5)
    config = place / "run/config.toml"
    before = config.read_text()
    config.write_text(before.replace("width = 32 ", "width = 64 "))
    with pytest.raises(InputError, match=r"has changed since the run began: width is 64 and was 32\. Undo that change"):
        resume()
    config.write_text(before)
    with (place / "text.txt").open("a") as file:
        file.write(" sea")
    with pytest.raises(InputError, match=r"text\.txt has changed since run was trained on it"):
        resume()


def test_it_says_what_its_bits_depend_on_and_has_changed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed(begin(steps=10, checkpoint_every=5), 7)
    facts = json.loads((kept(place / "run", "last") / "environment.json").read_text())
    assert facts["threads"] == facts["world"] == 1
    real = resuming.environment
    monkeypatch.setattr(resuming, "environment", lambda: {**real(), "torch": "9.0", "cpu": "another"})
    notes = [event.text for event in resume().events() if isinstance(event, Note)]
    assert notes == [
        f"The run began with torch {facts['torch']} (now 9.0); cpu {facts['cpu']} (now another): it goes on, but not "
        "bit for bit as without a break."
    ]


def test_a_terminated_run_only_saves(place: Path) -> None:
    events = until(begin(steps=100, evaluate_every=1000), 7, "terminated")
    assert [type(event) for event in events if not isinstance(event, Trained)] == [Ready, Evaluated, Finished]
    assert events[-1].summary["stopped"] == "terminated"
    assert checkpoints(place / "run")[0].name == "step-000007"
    list(begin("through", steps=20).events())
    list(resume(steps=20).events())
    assert json.loads((place / "run/summary.json").read_text())["steps"] == 20


def test_a_long_evaluation_ends_when_the_run_is_terminated(place: Path) -> None:
    session = begin(steps=20, evaluate_every=10)
    judge = session.stage.judge

    def slow(model: Any, go_on: Any) -> Any:
        if session.state.step == 10:
            session.stop = "terminated"
        return judge(model, go_on)

    session.stage = replace(session.stage, judge=slow)
    (*_, finished) = session.events()
    assert finished.summary["steps"] == 10
    assert checkpoints(place / "run")[0].name == "step-000010"


def test_past_batches_that_do_harm(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = begin(steps=60, checkpoint_every=5, spikes=0.0)
    harmful = range(17, 17 + PATIENCE)
    seen: list[int] = []

    def spoiled(model: Any, batch: Any) -> Any:
        number = next(n for n in range(200) if session.stage.batches[n][0].seed == batch.seed)
        if model.training:
            seen.append(number)
        return next_token(model, batch) * (float("nan") if number in harmful and model.training else 1.0)

    session.stage = replace(session.stage, objective=spoiled)
    events = list(session.events())
    notes = [event.text for event in events if isinstance(event, Note)]
    assert notes == [
        "At step 18 (batch 17) the loss is not finite; such steps are left out.",
        f"At step {17 + PATIENCE} the loss is not finite, as at the {PATIENCE - 1} steps before it, so the run went "
        f"back to the checkpoint of step 15, and goes on from there with batch {17 + PATIENCE}.",
    ]
    left_out = [line["left_out"] for line in read_metrics(place / "run") if "left_out" in line]
    assert left_out == list(harmful)
    assert seen == [*range(17 + PATIENCE), *range(17 + PATIENCE, 17 + PATIENCE + 45)]
    assert session.state.step == 60
    assert session.state.dropped == 17 + PATIENCE - 15


def test_a_step_that_is_left_out_changes_no_bit(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = begin(steps=80, spikes=6.0)

    def spiking(model: Any, batch: Any) -> Any:
        return next_token(model, batch) * (50.0 if batch.seed == session.stage.batches[70][0].seed else 1.0)

    session.stage = replace(session.stage, objective=spiking)
    weights: list[torch.Tensor] = []
    for event in session.events():
        if isinstance(event, Trained | Note) and event.step in (70, 71):
            weights.append(torch.cat([p.detach().flatten().clone() for p in session.model.parameters()]))
        if isinstance(event, Note):
            assert event.text.startswith("At step 71 (batch 70) the loss of ")
            assert event.text.endswith(" is a spike; such steps are left out.")
    assert len(weights) == 2
    assert torch.equal(*weights)


def test_a_full_disk_for_a_while_does_not_end_a_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = begin(steps=20, checkpoint_every=5, snapshots=0)
    sync, writers = os.fsync, []

    def full(descriptor: int) -> None:
        writer = threading.current_thread()
        if writer.name == "checkpoint" and writer not in writers:
            writers.append(writer)
        if writers and writer is writers[0]:
            raise OSError(28, os.strerror(28))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    events = list(session.events())
    (note,) = [event.text for event in events if isinstance(event, Note)]
    assert note.startswith("No space is left to write")
    assert note.endswith("Training goes on, and the next checkpoint is tried as usual.")
    assert checkpoints(place / "run")[0].name == "step-000020"


@pytest.mark.parametrize("name", ["run.toml", "tokenizer.json", "state.json"])
def test_any_part_of_the_newest_checkpoint_may_be_broken(name: str, place: Path) -> None:
    killed(begin(steps=20, checkpoint_every=5), 12)
    (checkpoints(place / "run")[0] / name).write_bytes(b"\xff\xfe[")
    session = resume()
    assert session.state.step == 5
    (*_, finished) = session.events()
    assert finished.summary["steps"] == 20


def test_losses_that_stay_high_send_it_back(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = begin(steps=130, checkpoint_every=10)

    def high(model: Any, batch: Any) -> Any:
        spoiled = any(batch.seed == session.stage.batches[n][0].seed for n in range(95, 95 + PATIENCE))
        return next_token(model, batch) * (9.0 if spoiled else 1.0)

    session.stage = replace(session.stage, objective=high)
    notes = [event.text for event in session.events() if isinstance(event, Note)]
    assert len(notes) == 2
    assert notes[0].startswith("At step 96 (batch 95) the loss of ")
    assert notes[1].endswith("went back to the checkpoint of step 90, and goes on from there with batch 115.")
    assert session.state.step == 130
    assert session.state.returns == 0  # It is past where it went back from.


def test_a_run_that_ends_in_a_step_that_is_left_out_is_saved(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = begin(steps=20, checkpoint_every=7)
    last = session.stage.batches[19][0].seed

    def spoiled(model: Any, batch: Any) -> Any:
        return next_token(model, batch) * (float("nan") if batch.seed == last else 1.0)

    session.stage = replace(session.stage, objective=spoiled)
    (*_, finished) = session.events()
    assert finished.summary["steps"] == finished.summary["best_step"] == 20
    assert kept(place / "run").name == checkpoints(place / "run")[0].name == "step-000020"
    (*_, longer) = resume(steps=30).events()
    assert longer.summary["steps"] == 30


def test_what_was_judged_is_known_after_going_back() -> None:
    before = RunState(step=50, best=1.5, best_step=20, first_loss=4.0, notes=["overfitting"], returns=1, dropped=3)
    now = RunState(step=20, best=1.7, best_step=10, dropped=3)
    now.goes_back_from(before, 50)
    assert (now.best, now.best_step, now.notes) == (1.5, 20, ["overfitting"])
    assert (now.dropped, now.returns, now.furthest) == (33, 2, 50)
    later = RunState(step=10, best=1.9, best_step=10)
    later.goes_back_from(before, 50)
    assert (later.best, later.best_step) == (1.9, 10)


def test_fewer_steps_than_were_taken_are_refused(place: Path) -> None:
    list(begin(steps=20).events())
    with pytest.raises(InputError, match="has taken 20 steps already; give more --steps to go on"):
        resume(steps=15)
    assert read_recipe(place / "run").run.steps == 20


def test_a_run_is_taken_up_by_one_process_at_a_time(place: Path) -> None:
    session = begin(steps=20, checkpoint_every=5)
    events = session.events()
    while session.state.step < 12:
        next(events)
    before = (place / "run/metrics.jsonl").read_bytes()
    with pytest.raises(InputError, match=rf"run is in use: process {os.getpid()} on .* trains in it"):
        resume()
    assert (place / "run/metrics.jsonl").read_bytes() == before
    list(events)
    steps = [line["step"] for line in read_metrics(place / "run") if "loss" in line]
    assert steps == [10, 20]
    list(resume(steps=30).events())
