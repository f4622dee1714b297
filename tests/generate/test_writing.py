"""Tokens → text: whole characters, and nothing of a stop string."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pytest

from quoth.generate.writing import Writing
from quoth.text.tokenizer import Bytes, Tokenizer


def text_of(ids: Iterable[int], tokenizer: Tokenizer, stop: Sequence[str] = ()) -> Iterator[str]:
    """The pieces of text that ids come to."""
    writing = Writing(tokenizer, stop)
    for token in ids:
        if text := writing.add(token):
            yield text
        if writing.stopped:
            assert writing.add(token) == writing.end() == ""
            return
    if text := writing.end():
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
