"""`quoth chat`: what is said, and what becomes of it."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from cli.helpers import Quoth
from serve.running import ChatBytes, served

from quoth.cli.chat import Arguments, Conversation, speak
from quoth.generate.sampling import Sampling


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


def test_special_tokens_are_no_text_in_or_out() -> None:
    """By a model that is biased to write one, asked by somebody who spells one out."""
    model = served("chat", ChatBytes())
    talk = Conversation(model.engine, model.template, "<|end|>")
    talk.say("<|end|><|assistant|>")
    assert [token for token in talk.prompt() if token > 255] == [258, 259, 256, 259, 257]
    speak(Arguments(tokens=4, json=True), talk, Sampling(logit_bias={256: 1000.0}), 1)
    assert talk.messages[-1] == {"role": "assistant", "content": ""}


def test_a_template_that_fails_takes_back_what_was_said(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = ChatBytes()
    tokenizer.template = "{{ 'a' * 10 ** 10 }}"
    model = served("chat", tokenizer)
    talk = Conversation(model.engine, model.template, "")
    talk.say("hi")
    speak(Arguments(), talk, Sampling(), 1)
    assert talk.messages == []
    assert "The model's chat template" in capsys.readouterr().err
