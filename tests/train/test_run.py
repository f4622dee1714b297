"""Run folders: each run has one of its own, and what a disk has spoiled of its record does not hide the rest."""

from __future__ import annotations

import json
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quoth.system.errors import InputError
from quoth.system.lock import hold
from quoth.train.run import Metrics, file_name, new_run, read_metrics


def test_runs_that_begin_in_the_same_second_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "2026-01-01-000000")
    with ThreadPoolExecutor(16) as pool:
        folders = list(pool.map(lambda n: new_run(None, "laptop", "book"), range(64)))
    assert len(set(folders)) == 64
    assert {Path("runs/2026-01-01-000000-laptop-book"), Path("runs/2026-01-01-000000-laptop-book+2")} <= set(folders)


def test_a_folder_that_another_run_has_taken_is_refused(tmp_path: Path) -> None:
    folder = new_run(str(tmp_path / "mine"), "laptop", "book")
    lock = hold(folder)
    with pytest.raises(InputError, match="is in use"):
        hold(new_run(str(tmp_path / "mine"), "laptop", "book"))
    (folder / "config.toml").write_text("")
    lock.release()
    with pytest.raises(InputError, match="exists already; give --out a new folder"):
        new_run(str(tmp_path / "mine"), "laptop", "book")


@pytest.mark.parametrize(
    "spoiled", [b"\xff\xfe\x00 {", b'{"step": 3', b"[1, 2]", b"null", b'{"step": "x"}', b"\x00" * 9, b"[" * 200_000]
)
def test_a_spoiled_line_of_the_metrics_is_left_out(spoiled: bytes, tmp_path: Path) -> None:
    lines = [json.dumps({"step": n, "loss": 1.0}).encode() for n in range(4)]
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([*lines[:2], spoiled, *lines[2:]]) + b"\n")
    assert [line["step"] for line in read_metrics(tmp_path)] == [0, 1, 2, 3]
    Metrics(tmp_path).cut(2)
    assert [line["step"] for line in read_metrics(tmp_path)] == [0, 1, 2]


@given(text=st.text())
def test_a_name_is_a_file_name(text: str) -> None:
    name = file_name(text)
    assert len(name.encode()) <= 120
    assert name == unicodedata.normalize("NFC", name)
    assert not set(name) & set('/\\:*?"<>| \0\n')
    assert not name.startswith("-")


def test_letters_of_any_script_stay() -> None:
    assert file_name("laptop-große") == "laptop-große"
    assert file_name("laptop-gro\u0308ße") == "laptop-größe"
    assert file_name("laptop-吾輩は 猫/である\n") == "laptop-吾輩は-猫-である"
    assert file_name("हिन्दी") == "हिन्दी"
    assert file_name("猫" * 100) == "猫" * 40
