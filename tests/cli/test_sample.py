"""`quoth sample`: numbers that cannot be meant are one sentence, before a run is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.helpers import Quoth
from cli.test_bad_input import is_a_sentence


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--count", "0"], "--count must be at least 1, not 0."),
        (["--count", "-3"], "--count must be at least 1, not -3."),
        (["--count", "1000000000"], "--count must be at most 100,000, not 1000000000."),
        (["--tokens", "0"], "--tokens must be at least 1, not 0."),
        (["--tokens", "-1"], "--tokens must be at least 1, not -1."),
        (["--tokens", str(10**9)], f"--tokens must be at most 10,000,000, not {10**9}."),
        (["--threads", "-1"], "--threads must be at least 0, not -1."),
        (["--threads", "99999999"], "--threads must be at most 1,024, not 99999999."),
        (["--lookup", "-1"], "--lookup must be at least 0, not -1."),
        (["--lookup", "9"], "--lookup must be at most 8, not 9."),
        (["--temperature", "nan"], "--temperature must be a finite number, not nan."),
        (["--top-p", "0"], "top_p must lie in (0, 1], not 0.0."),
    ],
)
def test_numbers_that_cannot_be_meant(quoth: Quoth, here: Path, flags: list[str], said: str) -> None:
    assert is_a_sentence(quoth("sample", "first", *flags)) == f"quoth: {said}\n"
    assert is_a_sentence(quoth("sample", "no such run", *flags)) == f"quoth: {said}\n"


def test_an_empty_prompt_begins_a_text(quoth: Quoth, here: Path) -> None:
    result = quoth("sample", "first", "--prompt", "", "--tokens", "5", "--lookup", "8", "--threads", "1")
    assert (result.code, len(result.out), result.err) == (0, 6, "")
