import json
from pathlib import Path

import pytest
from cli.helpers import Quoth

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
        (["ladder", "text.txt", "--seeds", "0"], "seeds and minutes must be above 0"),
        (["explain", "atention"], "did you mean 'attention'"),
        (["explain", "sets", "--data", "text.txt", "--text", "thé king of the sea"], "'é' at position 2"),
        (["explain", "sets", "--data", "text.txt", "--text", "the"], "needs at least 9"),
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
    assert result.code == 0 and "causal=True" in result.out and "(8, 8)" in result.out and "0.00" in result.out


def test_without_a_text_the_data_has_one(quoth: Quoth, here: Path) -> None:
    result = quoth("explain", "averaging", "--data", "text.txt", "--out", "shown")
    assert result.code == 0

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    record = json.loads((here / "shown/averaging.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert record["text"] in (here / "text.txt").read_text(encoding="utf-8")


def test_an_explanation_as_json_and_as_drawings(quoth: Quoth, here: Path) -> None:
    text = "the king and queen"
    result = quoth("explain", "communication", "--data", "text.txt", "--text", text, "--out", "shown", "--json")
    assert result.code == 0
    record = json.loads(result.out)
    (graph,) = [part for part in record["parts"] if part["kind"] == "graph"]
    assert graph["weight_TS"]["shape"] == [8, 8] and len(graph["labels"]) == 8
    assert {path.suffix for path in (here / "shown").iterdir()} == {".svg", ".dot", ".json"}
