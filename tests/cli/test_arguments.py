"""Dataclasses as flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest
import tyro

from quoth.cli.arguments import declared, parse
from quoth.cli.output import columns, wrapped
from quoth.system.errors import InputError


@dataclass
class Example:
    """An example.

    Attributes:
        what: a thing.
        number: a number.
        mode: a mode.
        say: words.
        loud: or not.
    """

    what: tyro.conf.Positional[str] = "thing"
    number: int = 3
    share_of: float = 0.5
    mode: Literal["fast", "slow"] = "fast"
    say: Annotated[tyro.conf.UseAppendAction[list[str]], tyro.conf.arg(metavar="TEXT")] = field(default_factory=list)
    loud: bool = False


def test_values() -> None:
    assert parse(Example, [], "x") == Example()
    assert parse(Example, ["it", "--number=4", "--share-of", "1e-3"], "x") == Example("it", 4, 1e-3)
    assert parse(Example, ["--loud", "it", "--say", "--a", "--say=b = c", "--say", ""], "x") == Example(
        "it", say=["--a", "b = c", ""], loud=True
    )
    assert parse(Example, ["--share_of", "-1"], "x").share_of == -1


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--numbr", "3"], "did you mean '--number'?"),
        (["--number", "3.5"], "--number must be a whole number, not '3.5'"),
        (["--mode", "slwo"], "--mode must be one of fast, slow, not 'slwo'"),
        (["--share-of", "half"], "--share-of must be a number, not 'half'"),
        (["--number"], "--number needs a value"),
        (["--what", "it"], "WHAT is given without one"),
        (["a", "b"], "no use for 'b'"),
    ],
)
def test_refusals(arguments: list[str], word: str) -> None:
    with pytest.raises(InputError, match=r"^[^\n]+$") as refusal:
        parse(Example, arguments, "x")
    assert word in str(refusal.value)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(Example, ["--number", "4", "-h"], "x")
    assert stop.value.code == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "usage: quoth x" in words
    for said in ("[WHAT] a thing. (default: thing)", "--number N a number. (default: 3)", "--loud or not."):
        assert said in words
    assert "False" not in words


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--number", str(2**63)], "--number must be below 2⁶³"),
        (["--share-of", "nan"], "--share-of must be a finite number, not nan"),
        (["--share-of", "-inf"], "--share-of must be a finite number, not -inf"),
    ],
)
def test_numbers_that_no_command_can_use(arguments: list[str], word: str) -> None:
    with pytest.raises(InputError, match=word):
        parse(Example, arguments, "x")


def test_declared() -> None:
    by_name = {a.name: a for a in declared(Example)}
    assert [by_name[name].kind for name in ("what", "number", "loud")] == [str, int, bool]
    assert by_name["what"].positional
    assert not by_name["number"].positional
    assert by_name["mode"].choices == ("fast", "slow")
    assert by_name["share_of"].flag == "--share-of"
    assert not any(a.required for a in by_name.values())


def test_columns_of_wide_characters() -> None:
    assert list(columns([["語", "1"], ["abc", "22"]], {1})) == ["語    1", "abc  22"]


def test_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quoth.cli.output.width", lambda: 20)
    assert wrapped("one two three four five six", hang=4) == "  one two three four\n    five six"
