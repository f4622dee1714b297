"""What `quoth data` tells of a text, compared with what Python says of it."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from cli.helpers import Quoth, write_text

from quoth.cli import data
from quoth.text import reading
from quoth.text.corpus import corpus
from quoth.text.tokenizer import decode


def explored(quoth: Quoth, *arguments: str) -> dict[str, Any]:
    result = quoth("data", *arguments, "--json")
    assert result.code == 0, result.err
    value: dict[str, Any] = json.loads(result.out)
    return value


def test_the_lectures_numbers(quoth: Quoth) -> None:
    facts = explored(quoth, "shakespeare", "--tokenizer", "characters")
    assert (facts["title"], facts["characters"], facts["distinct"]) == ("Tiny Shakespeare", 1_115_394, 65)
    assert facts["alphabet"] == "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    assert facts["split"] == {"training": 1_003_854, "validation": 111_540}
    # "First Citizen" in the lecture's encoding.
    assert facts["tokenizers"][0]["sentence"][:13] == [18, 47, 56, 57, 58, 1, 15, 47, 58, 47, 64, 43, 52]
    assert facts["first"].startswith("First Citizen:\nBefore we proceed")
    assert len(facts["first"]) == 1000


def test_tokenizers(quoth: Quoth, here: Path) -> None:
    text = (here / "text.txt").read_text()
    facts = explored(quoth, "text.txt", "--tokenizer", "characters", "--tokenizer", "bytes", "--tokenizer", "bpe:300")
    characters, as_bytes, bpe = facts["tokenizers"]
    assert characters["tokens"] == as_bytes["tokens"] == len(text)
    assert bpe["vocabulary"] == 300
    assert bpe["tokens"] < len(text) / 2
    assert all(t["exact"] for t in facts["tokenizers"])
    assert facts["sentence"] == text.partition(".")[0] + "."
    assert as_bytes["sentence"] == list(facts["sentence"].encode())


def test_unusual_characters(quoth: Quoth, tmp_path: Path) -> None:
    path = tmp_path / "odd.txt"
    path.write_text(
        "plain text\n" * 50 + "\x07\ufeff\ue000é\N{REPLACEMENT CHARACTER}\t" + "\r" * 20, encoding="utf-8", newline=""
    )
    found = {u["character"]: u for u in explored(quoth, str(path), "--tokenizer", "bytes")["unusual"]}
    assert {c: u["why"] for c, u in found.items()} == {
        "\x07": "control",
        "\ufeff": "invisible",
        "\ue000": "private use",
        "é": "rare",
        "\N{REPLACEMENT CHARACTER}": "stands for bytes that were not UTF-8",
        "\t": "rare",
        "\r": "control",
    }
    assert found["é"]["code_point"] == "U+00E9"
    assert found["é"]["name"] == unicodedata.name("é")
    assert found["\r"]["count"] == 20
    out = quoth("data", str(path), "--tokenizer", "bytes").out
    assert "\\ufeff  U+FEFF" in out
    assert "\x07" not in out.partition("The first")[0]


@pytest.mark.parametrize("separator", ["<|end|>", "%", "\n\n"])
@pytest.mark.parametrize("piece", [7, 64, 2**20])
def test_documents(separator: str, piece: int, quoth: Quoth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PIECE_BYTES", piece)
    path = tmp_path / "documents.txt"
    path.write_text("".join(f"document {i} " + "text " * i + separator for i in range(20)) + "\n ")
    facts = explored(quoth, str(path), "--separator", separator, "--tokenizer", "bytes")
    assert facts["documents"]["number"] == 20
    made = corpus(str(path), "bytes", separator=separator, cache=tmp_path / "cache")
    assert facts["split"] == {
        "training": made.manifest["train_characters"],
        "validation": made.manifest["validation_characters"],
    }
    # To the byte what is learned from.
    out = quoth("data", str(path), "--separator", separator, "--text").out
    assert out == decode(made.tokenizer, made.train) + decode(made.tokenizer, made.validation)


def test_a_large_text_is_sampled(quoth: Quoth, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = explored(quoth, "text.txt", "--tokenizer", "bytes", "--tokenizer", "bpe:300")
    monkeypatch.setattr(data, "SAMPLE", 5000)
    monkeypatch.setattr(data, "PREFIX", 2000)
    monkeypatch.setattr(reading, "PIECE_BYTES", 1024)
    part = explored(quoth, "text.txt", "--tokenizer", "bytes", "--tokenizer", "bpe:300")
    assert part["characters"] == whole["characters"]
    assert part["sample_characters"] == 5000
    assert not any(t["exact"] for t in part["tokenizers"])
    for about, exact in zip(part["tokenizers"], whole["tokenizers"], strict=True):
        assert about["tokens"] == pytest.approx(exact["tokens"], rel=0.1)
    out = quoth("data", "text.txt", "--tokenizer", "bpe:300").out
    assert "judged by the first 5.0k characters" in out
    assert "trained on the first 2.0k characters" in out


def test_a_large_alphabet_is_cut(quoth: Quoth, tmp_path: Path) -> None:
    path = tmp_path / "chinese.txt"
    path.write_text("".join(chr(0x4E00 + i) for i in range(3000)), encoding="utf-8")
    result = quoth("data", str(path), "--tokenizer", "characters")
    assert "3,000 distinct characters, the first 200:" in result.out
    assert "and 2,980 more" in result.out
    assert explored(quoth, str(path), "--tokenizer", "characters")["alphabet"] == path.read_text(encoding="utf-8")


def test_a_folder(quoth: Quoth, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for name in ("a.txt", "b.txt"):
        write_text(tmp_path / "texts" / name, 1000)
    facts = explored(quoth, str(tmp_path / "texts"), "--tokenizer", "bytes")
    assert (facts["files"], facts["sha256"]) == (2, None)
    assert ", 2 files" in quoth("data", str(tmp_path / "texts"), "--tokenizer", "bytes").out
