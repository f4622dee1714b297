"""`quoth verify`: a whole run, and broken ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.helpers import MACHINE, SHAPE, Quoth, write_text

from quoth.train.keeper import checkpoints


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quoth: Quoth) -> Path:
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "text.txt")
    flags = [*SHAPE, *MACHINE, "--steps", "6", "--checkpoint-every", "2", "--keep-last", "3", "--sample-tokens", "0"]
    assert quoth("train", "text.txt", *flags, "--out", "run").code == 0
    return tmp_path / "run"


def test_a_run_that_is_whole(run: Path, quoth: Quoth) -> None:
    result = quoth("verify", "run")
    assert result.code == 0
    assert result.out.count("whole") == 4
    assert "6 snapshots" in result.out
    assert "Every file is as it was saved." in result.out
    said = json.loads(quoth("verify", "run", "--json").out)
    assert said["whole"] is True
    assert [one["checkpoint"] for one in said["checkpoints"]] == ["step-000002", "step-000004", "step-000006"]
    assert len(said["snapshots"]) == 6
    assert all(one["bytes"] > 10_000 and one["files"] == 8 for one in said["checkpoints"])


def test_a_broken_checkpoint_is_named_and_not_used(run: Path, quoth: Quoth) -> None:
    path = checkpoints(run)[0] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    result = quoth("verify", "run")
    assert result.code == 1
    assert "step-000006 is broken: model.safetensors is missing or was changed" in " ".join(result.out.split())
    said = json.loads(quoth("verify", "run", "--json").out)
    assert (said["whole"], len(said["problems"])) == (False, 1)
    sampled = quoth("sample", "run", "--tokens", "5")
    assert sampled.code == 0
    assert "step-000004 is used instead" in " ".join(sampled.err.split())


def test_settings_that_cannot_be_read(run: Path, quoth: Quoth) -> None:
    (run / "config.toml").write_text("[run]\nsteps = 3\n")
    assert quoth("verify", "run").code == 1
    assert "config.toml is broken" in json.loads(quoth("verify", "run", "--json").out)["problems"][0]


def test_a_run_without_checkpoints(run: Path, quoth: Quoth) -> None:
    for folder in checkpoints(run):
        folder.rename(run / folder.name)
    assert quoth("verify", "run").code == 1
    assert quoth("verify", "none").code == 2


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("environment.json", "{", "[", "environment.json cannot be read"),
        ("summary.json", "{", "[", "summary.json cannot be read"),
        ("summary.json", '"validation_loss": ', '"validation_loss": 9', "says that the best loss is 9"),
        ("metrics.jsonl", '"step": 0', '"step: 0', "1 of its lines cannot be read"),
        ("checkpoints/kept.json", "step-", "stop-", "kept.json is damaged"),
    ],
)
def test_what_is_wrong_beside_the_checkpoints_is_named(
    file: str, old: str, new: str, said: str, quoth: Quoth, here: Path
) -> None:
    path = here / "runs/first" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    result = quoth("verify", "first")
    assert result.code == 1
    assert said in " ".join(result.out.split())
