"""A run is followed by its log: nothing is told twice or left out, also where the log was cut for a resume."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from studio.opening import Opened, studio, trained

from quoth.studio.live import LogFollower, newest_sample
from quoth.train.run import Metrics


def line(step: int) -> str:
    return json.dumps({"step": step, "loss": 1.0}) + "\n"


def test_lines_are_told_once_and_only_when_they_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    follower = LogFollower(path)
    assert follower.read() == (False, [])
    path.write_text(line(1) + line(2)[:5])
    assert follower.read() == (False, [{"step": 1, "loss": 1.0}])
    with path.open("a") as file:
        file.write(line(2)[5:] + "no JSON\n" + "[1]\n" + line(3))
    assert [one["step"] for one in follower.read()[1]] == [2, 3]
    assert follower.read() == (False, [])
    again = LogFollower(path, follower.place)
    with path.open("a") as file:
        file.write(line(4))
    assert again.read() == (False, [{"step": 4, "loss": 1.0}])
    for place in ("", "x", "-", "1", "1-x"):
        assert len(LogFollower(path, place).read()[1]) == 4


@pytest.mark.parametrize("step", [1, 3, 9])
def test_a_log_that_was_cut_is_told_anew(tmp_path: Path, step: int) -> None:
    log = Metrics(tmp_path)
    for number in range(1, 6):
        log.add(step=number, loss=1.0)
    follower = LogFollower(log.path)
    assert len(follower.read()[1]) == 5
    log.cut(step)
    for number in range(step + 1, step + 30):
        log.add(step=number, loss=2.0)
    anew, lines = follower.read()
    assert anew
    assert [one["step"] for one in lines] == [*range(1, min(step, 5) + 1), *range(step + 1, step + 30)]
    assert follower.read() == (False, [])


def test_a_log_that_became_shorter_in_place_is_told_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(line(1) + line(2))
    follower = LogFollower(path)
    follower.skip()
    os.truncate(path, len(line(1)))
    assert follower.read() == (True, [{"step": 1, "loss": 1.0}])


def test_the_newest_sample(tmp_path: Path) -> None:
    assert newest_sample(tmp_path) is None
    (tmp_path / "samples").mkdir()
    for step in (10, 20):
        (tmp_path / "samples" / f"step-{step:06d}.txt").write_text(f"after {step}")
    assert newest_sample(tmp_path) == {"name": "step-000020", "text": "after 20"}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    with studio(trained(tmp_path_factory.mktemp("live"), steps=20)) as one:
        yield one


def events(lines: Iterator[str]) -> Iterator[tuple[str, object, str]]:
    told: dict[str, str] = {}
    for text in lines:
        if text:
            name, _, value = text.partition(": ")
            told[name] = value
        elif "event" in told:
            yield told["event"], json.loads(told["data"]), told["id"]
            told = {}


def test_a_page_is_told_within_a_quarter_of_a_second_and_goes_on_where_it_was(opened: Opened) -> None:
    log = Metrics(opened.run.folder)
    place = opened.client.get("/api/run").json()["place"]
    with opened.client.stream("GET", "/api/live", params={"place": place}) as stream:
        told = events(stream.iter_lines())
        kind, now, _ = next(told)
        assert (kind, now["trains"], now["moments"][0]) == ("folder", False, 0)  # type: ignore[index]
        began = time.monotonic()
        log.add(step=21, loss=1.5)
        kind, lines, at = next(told)
        assert time.monotonic() - began < 0.25
        assert (kind, lines) == ("lines", [{"step": 21, "loss": 1.5}])
    log.add(step=22, loss=1.4)
    with opened.client.stream("GET", "/api/live", headers={"last-event-id": at}) as stream:
        told = events(stream.iter_lines())
        assert next(told)[:2] == ("lines", [{"step": 22, "loss": 1.4}])
        assert next(told)[0] == "folder"
        log.cut(20)
        assert next(told)[0] == "again"
        shutil.copytree(
            next(iter((opened.run.folder / "snapshots").iterdir())), opened.run.folder / "snapshots/step-000021"
        )
        kind, now, _ = next(told)
        assert kind == "folder" and 21 in now["moments"]  # type: ignore[index]


def test_nobody_else_is_told(opened: Opened) -> None:
    assert httpx.get(f"{opened.url}/api/live").status_code == 401
