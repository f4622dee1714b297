"""`quoth chat`: what is said, and what becomes of it."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from cli.helpers import Quoth


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> object:
    def these(*lines: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))

    return these


def test_a_text_grows(quoth: Quoth, here: Path, typed: object) -> None:
    typed("the king", "", "the queen")  # type: ignore[operator]
    got = quoth("chat", "first", "--tokens", "5", "--json")
    messages = json.loads(got.out)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "assistant", "user", "assistant"]
    assert messages[0]["content"] == "the king"
    assert messages[3]["content"] == "\nthe queen"
    assert [len(m["content"]) for m in messages if m["role"] == "assistant"] == [5, 5, 5]
    assert "goes on from what you write" in got.err


def test_what_can_be_said_besides(quoth: Quoth, here: Path, typed: object) -> None:
    typed("the king", "/again", "/help", "/new", "", "the sea", "/quit", "never read")  # type: ignore[operator]
    got = quoth("chat", "first", "--tokens", "5", "--json")
    messages = json.loads(got.out)["messages"]
    assert [message["content"] for message in messages if message["role"] == "user"] == ["the sea"]
    assert "/again" in got.err
    assert "Forgotten." in got.err


def test_a_character_that_it_does_not_know_is_taken_back(quoth: Quoth, here: Path, typed: object) -> None:
    typed("the Ω", "the sea")  # type: ignore[operator]
    got = quoth("chat", "first", "--tokens", "5", "--json")
    assert "'Ω' at position 4" in got.err
    assert [m["content"] for m in json.loads(got.out)["messages"] if m["role"] == "user"] == ["the sea"]


def test_answers_stream_to_stdout(quoth: Quoth, here: Path, typed: object) -> None:
    typed("the king")  # type: ignore[operator]
    got = quoth("chat", "first", "--tokens", "7")
    assert len(got.out.rstrip("\n")) >= 5
    assert got.code == 0


@pytest.mark.parametrize("flags", [["--tokens", "0"], ["--temperature", "-1"], ["--top-p", "2"]])
def test_what_it_refuses(quoth: Quoth, here: Path, flags: list[str]) -> None:
    assert quoth("chat", "first", *flags).code == 2
