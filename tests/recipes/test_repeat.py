"""The same command makes the same run, however busy the machine is; a run by the clock is repeated by its config."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from recipes.runs import begin

from quoth.recipes.dial import complete
from quoth.recipes.events import Trained
from quoth.recipes.recipe import read_recipe, settings
from quoth.recipes.start import hardware_for
from quoth.system.device import Hardware
from quoth.text.corpus import corpus
from quoth.train.keeper import kept
from quoth.train.run import read_metrics

pytestmark = pytest.mark.usefixtures("place")


def digests(run: Path) -> dict[str, str]:
    files: dict[str, str] = json.loads((kept(run, "last") / "manifest.json").read_text())["files"]
    return {name: files[name] for name in ("model.safetensors", "optimizer.safetensors")}


def _burn() -> None:
    while True:
        pass


@contextmanager
def load(processes: int) -> Iterator[None]:
    """Keep every core busy with something else."""
    burning = [multiprocessing.get_context("spawn").Process(target=_burn, daemon=True) for _ in range(processes)]
    for process in burning:
        process.start()
    yield
    for process in burning:
        process.kill()
        process.join()


def train(*arguments: str) -> None:
    command = [sys.executable, "-m", "quoth", "train", *arguments, "--json"]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.slow
def test_steps_are_the_same_under_another_load(place: Path) -> None:
    for run, busy in (("quiet", 0), ("busy", 3)):
        with load(busy):
            train("text.txt", "--steps", "30", "--seed", "5", "--threads", "1", "--out", run)
    assert digests(place / "quiet") == digests(place / "busy")
    assert read_recipe(place / "quiet") == read_recipe(place / "busy")
    evaluated = [[m["step"] for m in read_metrics(place / run) if "validation_loss" in m] for run in ("quiet", "busy")]
    assert evaluated[0] == evaluated[1]


@pytest.mark.parametrize("steps", [1, 60, 3000])
def test_with_steps_no_choice_depends_on_the_machines_speed(
    place: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, made = corpus("text.txt"), []
    for speed in (1.0, 0.1, 7.0):
        faster = itertools.count(1)
        monkeypatch.setattr("quoth.system.device.fastest", lambda *a, s=speed, f=faster: s * next(f) * 1e-3)
        hardware = hardware_for(settings("laptop", flags={"steps": steps}))
        chosen = complete(settings("laptop", flags={"steps": steps}), text, hardware)
        made.append((chosen, hardware.dtype, hardware.threads, hardware.compile))
    assert made[0] == made[1] == made[2]


def test_all_that_is_chosen_is_chosen_for_the_steps_that_are_given(place: Path) -> None:
    text = corpus("text.txt")
    hardware = Hardware("cpu", "float32", 1, True, 1e12, {})
    few, many = (complete(settings("laptop", flags={"steps": steps}), text, hardware) for steps in (40, 20_000))
    assert "for about 40 steps" in few["learning_rate"].origin
    assert few["learning_rate"].value > many["learning_rate"].value
    assert (few["compile"].value, many["compile"].value) == ("off", "on")
    assert few["layers"].value * few["width"].value < many["layers"].value * many["width"].value


def test_a_run_by_the_clock_is_repeated_by_its_config(place: Path) -> None:
    (*_, finished) = begin("clock", minutes=0.08, threads=0, dtype="auto", compile="auto").events()
    config = place / "clock/config.toml"
    recipe = read_recipe(place / "clock")
    assert recipe.run.pace.split()[-1] == str(finished.summary["steps"])
    with load(2):
        train("--config", str(config), "--out", "again")
    assert digests(place / "again") == digests(place / "clock")
    # With another setting it is another run, by the clock again.
    assert "pace" not in settings("laptop", config, {"width": 64})
    assert "pace" not in settings("laptop", config, {"minutes": 0.1})
    assert settings("laptop", config, {"sample_tokens": 3})["pace"].value == recipe.run.pace


def test_a_learning_rate_is_logged_as_a_rate_and_as_a_share(place: Path) -> None:
    list(begin(steps=20, learning_rate=0.03, warmup=0.5, cooldown=0.25).events())
    logged = [m for m in read_metrics(place / "run") if "loss" in m]
    assert [m["learning_rate_share"] for m in logged] == pytest.approx([9.5 / 20 / 0.5, 0.5 / 20 / 0.25])
    assert [m["learning_rate"] for m in logged] == pytest.approx([0.03 * m["learning_rate_share"] for m in logged])


def test_one_step_moves_the_weights(place: Path) -> None:
    session = begin(steps=1)
    before = [p.detach().clone() for p in session.model.parameters()]
    assert [event.step for event in session.events() if isinstance(event, Trained)] == [1]
    assert not all(torch.equal(p, b) for p, b in zip(session.model.parameters(), before, strict=True))
