"""What a writer has in a folder is learned from, and what is learned from is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.helpers import TINY, Quoth
from text.documents import prose, write_ten_formats

from quoth.text.tokenizer import decode


def test_a_folder_of_ten_formats_is_learned_from(quoth: Quoth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_ten_formats(tmp_path / "texts")
    facts = json.loads(quoth("data", "texts", "--json", "--tokenizer", "bytes").out)
    kinds = {"text", "markdown", "html", "jsonl", "csv", "parquet", "docx", "pdf", "epub"}
    assert facts["documents"]["formats"].keys() == kinds
    assert facts["documents"]["skipped"].keys() == {"broken.pdf", "broken.docx"}
    assert facts["documents"]["repeated"] == 1

    result = quoth("train", "texts", *TINY, "--steps", "20", "--out", "runs/mine")
    assert result.code == 0, result.err
    assert result.out.count("2 files could not be read and were left out: broken.docx is damaged") == 1
    assert "old.txt is not UTF-8" in result.out
    assert "1 hidden file and 1 binary file were left out." in result.out
    assert quoth("sample", "mine", "--tokens", "20").code == 0
    assert quoth("eval", "mine", "--data", "texts/g.docx", "--json").code == 0

    shown = quoth("data", "texts", "--text").out
    from quoth.recipes.open_again import open_again
    from quoth.recipes.recipe import read_recipe

    text = open_again(Path("runs/mine"), read_recipe(Path("runs/mine")))
    assert shown == decode(text.tokenizer, text.train) + decode(text.tokenizer, text.validation)
    assert "no()" not in shown
    assert "hidden" not in shown

    (tmp_path / "texts" / "a.txt").unlink()
    (tmp_path / "texts" / "b.md").write_text("another")
    (tmp_path / "texts" / "l.txt").write_text("new")
    result = quoth("train", "--resume", "mine", "--steps", "30")
    assert result.code == 2
    assert "(b.md is another, l.txt was added, a.txt is gone)" in result.err


def test_another_reading_of_the_same_files_is_noticed(
    quoth: Quoth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.html").write_text(f"<p>{prose(1)}</p>")
    assert quoth("train", "a.html", *TINY, "--out", "runs/first").code == 0
    monkeypatch.setattr("quoth.text.formats.html_text", lambda content: prose(2))
    monkeypatch.setattr("quoth.text.corpus._version", lambda package: "another")
    said = quoth("train", "--resume", "first").err
    assert "a different text is now read from them" in said


def test_several_paths_are_one_text(quoth: Quoth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("große.txt", "吾輩は猫である.txt"):
        Path(name).write_text(prose(len(name)))
    assert quoth("train", "große.txt", "吾輩は猫である.txt", *TINY).code == 0
    assert quoth("train", "吾輩は猫である.txt", *TINY).code == 0
    assert sorted(run.name[18:] for run in Path("runs").iterdir()) == [
        "laptop-große-and-1-more",
        "laptop-吾輩は猫である",
    ]
    assert quoth("sample", "latest", "--tokens", "5").code == 0
