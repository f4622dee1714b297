import io
import json
from itertools import islice
from pathlib import Path

import pytest
import torch
from cli.helpers import Quoth
from rich.console import Console

from quoth.cli import explain
from quoth.ladder.rung import Rung
from quoth.ladder.topics import TOPICS


def test_a_climb_as_json_and_its_files(quoth: Quoth, here: Path) -> None:
    result = quoth("ladder", "text.txt", "--rung", "think", "--steps", "10", "--seeds", "2", "--out", "climb", "--json")
    assert result.code == 0
    (rung,) = json.loads(result.out)["rungs"]
    keys = {"name", "parameters", "steps", "seconds", "train_loss", "validation_loss", "lecture_loss"}
    assert keys <= set(rung) and rung["name"] == "think" and rung["lecture_loss"] == 2.24
    assert {"ladder.json", "report.html"} <= {path.name for path in (here / "climb").iterdir()}


def test_a_climb_as_a_table(quoth: Quoth, here: Path) -> None:
    result = quoth(
        "ladder", "text.txt", "--rung", "bigram", "--steps", "10", "--seeds", "1", "--faithful", "--out", "c"
    )
    assert result.code == 0
    head, row = (line.split() for line in result.out.splitlines()[-5:] if line.startswith(("rung", "bigram")))
    assert " ".join(head) == "rung parameters steps time training validation sampled corrected ± lecture"
    assert row[0] == "bigram" and row[-1] == "2.5"


@pytest.mark.slow
def test_the_scaled_rung_is_a_run(quoth: Quoth, here: Path) -> None:
    result = quoth(
        "ladder", "text.txt", "--rung", "scaled", "--minutes", "0.05", "--seeds", "1", "--out", "c", "--json"
    )
    assert result.code == 0
    (rung,) = json.loads(result.out)["rungs"]
    assert rung["name"] == "scaled" and rung["validation_loss"] < rung["initial_loss"]
    assert (here / "c/scaled-1337/report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ladder", "text.txt", "--rung", "heads"], "There is no rung 'heads'"),
        (["ladder", "text.txt", "--seeds", "0"], "seeds must lie in [1, 1,000], not 0"),
        (["ladder", "text.txt", "--seeds", "1000000000"], "seeds must lie in [1, 1,000], not 1000000000"),
        (["ladder", "text.txt", "--seed", str(2**32 - 1)], "so that every seed is below 2³²"),
        (["ladder", "text.txt", "--minutes", "0"], "minutes must be above 0"),
        (["explain", "atention"], "did you mean 'attention'"),
        (["explain", "sets", "--data", "text.txt", "--text", "thé king of the sea"], "'é' at position 2"),
        (["explain", "sets", "--data", "text.txt", "--text", "t"], "needs a text of at least 2 tokens"),
        (["explain", "sets", "--data", "text.txt", "--text", ""], "The text is empty"),
        (["explain", "sets", "--data", "nowhere.txt"], "'nowhere.txt' is neither a file"),
    ],
)
def test_bad_input_is_a_sentence(quoth: Quoth, here: Path, arguments: list[str], said: str) -> None:
    result = quoth(*arguments)
    assert result.code == 2 and said in result.err and result.err.count("\n") == 1


def test_topics_are_listed(quoth: Quoth) -> None:
    result = quoth("explain")
    assert result.code == 0 and [line.split()[0] for line in result.out.splitlines()] == list(TOPICS)


def test_an_explanation_shows_tensors_with_their_shapes(quoth: Quoth, here: Path) -> None:
    result = quoth("explain", "masks", "--data", "text.txt", "--text", "the king and queen")
    assert result.code == 0 and "causal=True" in result.out and "(18, 18)" in result.out and "0.00" in result.out


def test_without_a_text_the_data_has_one(quoth: Quoth, here: Path) -> None:
    result = quoth("explain", "averaging", "--data", "text.txt", "--out", "shown")
    assert result.code == 0

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    record = json.loads((here / "shown/averaging.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert record["text"] in (here / "text.txt").read_text(encoding="utf-8")


def test_an_explanation_as_json_and_as_drawings(quoth: Quoth, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = Rung.train
    monkeypatch.setattr(Rung, "train", lambda *given: islice(train(*given), 5))
    monkeypatch.setenv("QUOTH_CACHE", str(here / "cache"))
    text = "the king and queen"
    result = quoth("explain", "communication", "--data", "text.txt", "--text", text, "--out", "shown", "--json")
    assert result.code == 0
    record = json.loads(result.out)
    (graph,) = [part for part in record["parts"] if part["kind"] == "graph"]
    assert graph["weight_TS"]["shape"] == [18, 18] and len(graph["labels"]) == 18
    assert "training one-head" in result.err
    assert {path.suffix for path in (here / "shown").iterdir()} == {".svg", ".dot", ".json"}


def test_what_is_being_done_is_told_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, screen = [0.0], Console(file=io.StringIO(), width=80)
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    working = explain.Working(screen)
    for step in range(1000):
        clock[0] = step / 100
        working("training [norm]", step, 1000)
    working("judging", 0, 1)
    working.stop()
    said = [f"training [norm]: {step} of 1,000 steps" for step in (0, 300, 600, 900)]
    assert screen.file.getvalue().splitlines() == said


def test_on_a_terminal_what_is_being_done_is_one_line_that_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    working = explain.Working(screen)
    working("training norm", 0, 2000)
    working.stop()
    written = screen.file.getvalue()
    assert "training norm: 0 of 2,000 steps" in written and written.endswith("\x1b[2K")
    assert working.live is None


def test_a_matrix_wider_than_the_terminal_is_shown_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [repr(c) for c in "abcdefgh"]
    monkeypatch.setattr(explain, "width", lambda: 40)
    shown = list(explain.matrix(torch.eye(8), names, names))
    assert max(map(len, shown)) <= 38 and shown.count("") == 1 and len(shown) == 2 * 9 + 1
    assert [line.split()[0] for line in shown[1:9]] == names
    monkeypatch.setattr(explain, "width", lambda: None)
    assert len(list(explain.matrix(torch.eye(8), names, names))) == 9
    (first, second) = explain.matrix(torch.arange(17), (), ())
    assert first.split() == [str(i) for i in range(16)] and second.split() == ["16"]
