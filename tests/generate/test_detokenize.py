"""Tokens → text: whole characters, and nothing of a stop string."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pytest

from quoth.generate.detokenize import Detokenizer
from quoth.text.tokenizer import Bytes, Tokenizer


def text_of(ids: Iterable[int], tokenizer: Tokenizer, stop: Sequence[str] = ()) -> Iterator[str]:
    """The pieces of text that ids come to."""
    detokenizer = Detokenizer(tokenizer, stop)
    for token in ids:
        if text := detokenizer.add(token):
            yield text
        if detokenizer.stopped:
            assert detokenizer.add(token) == detokenizer.end() == ""
            return
    if text := detokenizer.end():
        yield text


def test_pieces_hold_whole_characters() -> None:
    ids = "né→🎭".encode()
    pieces = list(text_of(iter(ids), Bytes()))
    assert pieces == ["n", "é", "→", "🎭"]


def test_broken_utf8_is_replaced_at_the_end() -> None:
    assert "".join(text_of(iter("é".encode()[:1]), Bytes())) == "�"


@pytest.mark.parametrize(
    ("stop", "expected"),
    [(["lo"], "hel"), (["x"], "hello world"), (["world!"], "hello world"), (["o w", "l"], "he"), ([""], "hello world")],
)
def test_text_ends_before_a_stop_string_and_no_piece_leaks_it(stop: list[str], expected: str) -> None:
    pieces = list(text_of(iter(b"hello world"), Bytes(), stop))
    assert "".join(pieces) == expected
    assert all(pieces)


@pytest.mark.parametrize(
    ("stop", "special", "expected", "stopped"),
    [
        ([], False, "née", False),
        ([], True, "n<|user|>ée<|end|>", False),
        (["<|user|>"], False, "n", True),
        (["<|user|>"], True, "n", True),
        (["<|end|>", "ex"], False, "née", True),
    ],
)
def test_special_tokens_are_no_text_unless_asked_for_and_stop_all_the_same(
    stop: list[str], special: bool, expected: str, stopped: bool
) -> None:
    detokenizer = Detokenizer(Bytes(["<|end|>", "<|user|>"]), stop, special=special)
    pieces = [detokenizer.add(i) for i in (*b"n", 257, *"ée".encode(), 256)]
    assert "".join(pieces) + detokenizer.end() == expected
    assert detokenizer.stopped == stopped


def test_the_text_of_a_prompt_is_no_special_token() -> None:
    assert "".join(text_of(iter(b"a<|end|>b"), Bytes(["<|end|>", "<|user|>"]))) == "a<|end|>b"
