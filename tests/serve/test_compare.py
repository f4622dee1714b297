"""The page of comparisons as a program sees it: what it is told, what is written down, and what it refuses."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from serve.comparing import PROMPTS, comparing, loaded
from serve.running import ALPHABET

from quoth.recipes.comparing import LEAST_PAIRS
from quoth.serve.compare import FOLDER
from quoth.text.tokenizer import Characters
from quoth.tune.comparison import Comparison, Decision
from quoth.tune.comparison_rows import About, Record
from quoth.tune.read import read_preferences

pytestmark = pytest.mark.usefixtures("one_thread")


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_decisions_are_kept_and_gone_on_from(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    with comparing(path, [loaded("chat")]) as page:
        first = page.state()
        shown = first["comparison"]
        assert (shown["number"], first["next"], first["done"], first["typed"]) == (0, 0, False, False)
        assert shown["prompt"][0]["content"] in {one[0]["content"] for one in PROMPTS}
        assert shown.keys() == {"number", "prompt", "left", "right"}  # Nothing that would sway a person.
        assert shown["left"]["text"] != shown["right"]["text"]
        for choice in ("left", "tie", "right", "skip"):
            page.decide(choice)
        assert [row["choice"] for row in rows(path)] == ["left", "right"]
        assert [row["choice"] for row in rows(path.with_name("pairs.rest.jsonl"))] == ["tie", "skip"]
        before = page.state()
        assert before["counts"].items() >= {"pairs": 4, "preferred": 2, "ties": 1, "skips": 1}.items()
    row = rows(path)[0]
    assert row["prompt"] == shown["prompt"]
    assert row["chosen"] == [{"role": "assistant", "content": shown["left"]["text"]}]
    assert row["rejected"] == [{"role": "assistant", "content": shown["right"]["text"]}]
    assert len(read_preferences(str(path))) == 2
    with comparing(path, [loaded("chat")]) as page:
        assert page.state() == before  # The same answers on the same sides, too.


def test_what_is_taken_back_is_shown_again_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    with comparing(path, [loaded("chat")]) as page:
        shown = [page.state()["comparison"]]
        for choice in ("left", "tie", "right"):
            shown.append(page.decide(choice)["comparison"])
        for n in (2, 1, 0):
            assert page.undo()["comparison"] == shown[n]
        assert rows(path) == rows(path.with_name("pairs.rest.jsonl")) == []
        refused = page.client.post("/api/undo", json={"number": 0})
        assert (refused.status_code, "no decision to take back" in refused.text) == (400, True)
        page.decide("right")
    # Answers that another process wrote, perhaps by other weights, come back as they were.
    with comparing(path, [loaded("chat", shape={"width": 16})]) as page:
        assert page.undo()["comparison"] == shown[0]


def test_what_is_taken_back_comes_before_pairs_that_were_left_out(tmp_path: Path) -> None:
    """An earlier process had nothing to show of pairs 1 to 4."""
    path = tmp_path / "pairs.jsonl"
    record = Record(path, About("chat", "", 1, plain=False))
    for number, pair in enumerate((0, 5)):
        shown = Comparison(number, pair, PROMPTS[0], (f"one {pair}", "other"), (True, True), "left")
        record.add(Decision(shown, "left", 1.0))
    record.close()
    with comparing(path, [loaded("chat")]) as page:
        shown_again = page.undo()["comparison"]
        assert sorted(shown_again[side]["text"] for side in ("left", "right")) == ["one 5", "other"]
        assert page.session.pair == 5


def test_a_decision_on_what_is_shown_no_more_is_refused(tmp_path: Path) -> None:
    with comparing(tmp_path / "pairs.jsonl", [loaded("chat")]) as page:
        number = page.state()["comparison"]["number"]
        page.decide("left", number)
        again = page.client.post("/api/decision", json={"number": number, "choice": "left", "seconds": 1})
        assert again.status_code == 409 and "decided on already" in again.json()["error"]["message"]
        undone = page.client.post("/api/undo", json={"number": number})
        assert undone.status_code == 409
        assert len(page.session.record.decisions) == 1


def test_to_the_end_with_repeats(tmp_path: Path) -> None:
    with comparing(tmp_path / "pairs.jsonl", [loaded("chat")], wanted=30) as page:
        state, seen = page.state(), []
        while not state["done"]:
            shown = state["comparison"]
            seen.append((shown["left"]["text"], shown["right"]["text"]))
            state = page.decide("left" if shown["left"]["text"] > shown["right"]["text"] else "right")
        assert state["comparison"] is None and state["counts"]["pairs"] == 30
        assert state["counts"]["agreement"] == {"same": 3, "total": 3}
        assert len(seen) == 33 and len({tuple(sorted(one)) for one in seen}) == 30
        refused = page.client.post("/api/decision", json={"number": 33, "choice": "left", "seconds": 1})
        assert refused.status_code == 409


def test_two_runs_blind(tmp_path: Path) -> None:
    runs = [loaded("before", slots=1), loaded("after", slots=1, shape={"width": 16})]
    path = tmp_path / "against.jsonl"
    with comparing(path, runs, wanted=20) as page:
        state = page.state()
        assert state["training"] is None and state["score"]["rate"] is None
        while not state["done"]:
            shown = page.session.shown()
            assert shown
            state = page.decide("left" if (shown.first_on == "left") == (shown.pair % 4 > 0) else "right")
        score = state["score"]
        assert (score["wins"], score["ties"], score["losses"], score["rate"]) == (15, 0, 5, 0.75)
        assert score["interval"] == pytest.approx([0.531299, 0.888138], abs=1e-6)
        sides = {one.comparison.first_on for one in page.session.record.decisions}
        assert sides == {"left", "right"}
        refused = page.client.post("/api/training", json={"stage": "reward"})
        assert refused.status_code == 400 and "measures them" in refused.text
    both = [*rows(path), *rows(path.with_name("against.rest.jsonl"))]
    assert {(row["run"], row["against"]) for row in both} == {("before", "after")}


def test_prompts_that_a_person_types(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    with comparing(path, [loaded("base", Characters(ALPHABET))], []) as page:
        assert page.state()["typed"] and page.state()["comparison"] is None
        for text, said in (
            (" \n", "must say something"),
            ("XYZ", "'X' at position 0"),
            ("abc" * 30, "no room for an answer"),
            ("\ud800", "a valid string"),
        ):
            refused = page.client.post("/api/prompt", content=json.dumps({"text": text}), headers=JSON)
            assert (refused.status_code, said in refused.json()["error"]["message"]) == (400, True), refused.text
        shown = page.client.post("/api/prompt", json={"text": "abc "}).json()["comparison"]
        assert shown["prompt"] == [{"role": "user", "content": "abc "}]
        assert page.client.post("/api/prompt", json={"text": "abc "}).status_code == 409
        assert page.decide("left")["comparison"] is None
        assert page.undo()["comparison"] == shown
        page.decide("right")
        assert page.client.post("/api/prompt", json={"text": "abc "}).json()["comparison"]["left"] != shown["left"]
    (row,) = rows(path)
    assert (row["prompt"], row["chosen"], row["rejected"]) == ("abc ", shown["right"]["text"], shown["left"]["text"])


JSON = {"content-type": "application/json"}


def test_a_run_that_always_says_the_same(tmp_path: Path) -> None:
    run = loaded("chat")
    run.engine.tokenizer.ends = tuple(range(260))  # type: ignore[misc]
    with comparing(tmp_path / "pairs.jsonl", [run]) as page:
        state = page.state()
        assert state["comparison"] is None and not state["writing"]
        assert "same answer twice or an empty one to 20 prompts in a row" in state["problem"]
    with comparing(tmp_path / "pairs.jsonl", [run], []) as page:
        state = page.client.post("/api/prompt", json={"text": "abc "}).json()
        assert state["comparison"] is None and "empty one to this prompt" in state["problem"]
        assert "empty one to this prompt" in page.client.post("/api/prompt", json={"text": "abc "}).json()["problem"]


def test_of_two_runs_an_empty_answer_is_shown(tmp_path: Path) -> None:
    silent, other = loaded("silent", slots=1), loaded("other", slots=1)
    silent.engine.tokenizer.ends = tuple(range(260))  # type: ignore[misc]
    path = tmp_path / "against.jsonl"
    with comparing(path, [silent, other]) as page:
        state = page.state()
        texts = {side: state["comparison"][side]["text"] for side in ("left", "right")}
        assert sorted(map(bool, texts.values())) == [False, True]
        state = page.decide("left" if texts["left"] else "right")
        assert (state["score"]["wins"], state["score"]["losses"]) == (0, 1)
    assert not path.exists() and len(rows(path.with_name("against.rest.jsonl"))) == 1


def test_an_engine_that_fails_is_tried_again(tmp_path: Path) -> None:
    run = loaded("chat")
    step = run.engine.decoder.step

    def fail(*given: object) -> None:
        raise RuntimeError("broken")

    run.engine.decoder.step = fail  # type: ignore[method-assign, assignment]
    with comparing(tmp_path / "pairs.jsonl", [run]) as page:
        got = page.client.get("/api/state")
        assert (got.status_code, "engine failed" in got.text) == (400, True)
        run.engine.decoder.step = step  # type: ignore[method-assign]
        assert page.state()["comparison"]["number"] == 0


def decide_all(page: object, count: int) -> None:
    for _ in range(count):
        page.decide("left")  # type: ignore[attr-defined]


def trained(page: object) -> dict[str, object]:
    """The state when a training has ended; a process is waited for, and nothing else."""
    process = page.session._training[1]  # type: ignore[attr-defined]
    ended = threading.Event()
    process._following.get_loop().call_soon_threadsafe(process._following.add_done_callback, lambda _: ended.set())
    assert ended.wait(60)
    return page.state()["training"]  # type: ignore[attr-defined, no-any-return]


def test_a_training_is_refused_before_it_can_teach(tmp_path: Path) -> None:
    with comparing(tmp_path / "pairs.jsonl", [loaded("chat")]) as page:
        decide_all(page, 3)
        page.decide("tie")
        refused = page.client.post("/api/training", json={"stage": "reward"})
        said = f"{LEAST_PAIRS} pairs with a preference are the least to train on, and there are 3"
        assert (refused.status_code, said in refused.json()["error"]["message"]) == (400, True)
        assert page.state()["training"].items() >= {"least": LEAST_PAIRS, "pairs": 3, "runs": False}.items()


def test_a_training_says_its_last_line_and_what_comes_next(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    with comparing(path, [loaded("chat")], wanted=80) as page:
        decide_all(page, LEAST_PAIRS * 11 // 10 + 1)
        commands = page.state()["training"]["commands"]
        assert commands == {stage: f"quoth tune {stage} chat {path}" for stage in ("reward", "dpo")}
        for stage, then in (
            ("reward", "quoth tune ppo chat PROMPTS --reward new"),
            ("dpo", "quoth tune compare new --against chat"),
        ):
            assert page.client.post("/api/training", json={"stage": stage}).status_code == 200
            told = trained(page)
            assert (told["code"], told["line"], told["accuracy"], told["then"]) == (0, "Done", 0.83, then)


WAITS = "import sys; print('step 1', file=sys.stderr, flush=True); sys.stdin.read(); import time; time.sleep(60)"
FAILS = "import sys; sys.exit('quoth: no space is left')"


def test_a_training_that_fails_says_why_and_one_at_a_time(tmp_path: Path) -> None:
    code = FAILS
    with comparing(
        tmp_path / "pairs.jsonl", [loaded("chat")], wanted=80, command=lambda stage: [sys.executable, "-c", code]
    ) as page:
        decide_all(page, LEAST_PAIRS * 11 // 10 + 1)
        assert page.client.post("/api/training", json={"stage": "dpo"}).status_code == 200
        told = trained(page)
        assert (told["code"], told["line"], told["then"]) == (1, "quoth: no space is left", "")
        code = WAITS
        assert page.client.post("/api/training", json={"stage": "dpo"}).status_code == 200
        refused = page.client.post("/api/training", json={"stage": "dpo"})
        assert (refused.status_code, "under way already" in refused.text) == (400, True)
        process = page.session._training[1]
    # The server has ended, and the training with it.
    assert process.code == -15


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("decision", {"number": 0, "choice": "both", "seconds": 1}),
        ("decision", {"number": "0", "choice": "left", "seconds": 1}),
        ("decision", {"number": 0, "choice": "left", "seconds": -1}),
        ("decision", {"number": 0, "choice": "left"}),
        ("undo", {}),
        ("prompt", {"text": 3}),
        ("prompt", {"text": "a", "more": 1}),
        ("training", {"stage": "sft"}),
    ],
)
def test_what_it_does_not_understand(page_url: str, path: str, body: dict[str, object]) -> None:
    import httpx

    got = httpx.post(f"{page_url}/api/{path}", json=body)
    assert got.status_code == 400 and got.json()["error"]["message"].endswith(".")


@pytest.fixture(scope="module")
def page_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with comparing(tmp_path_factory.mktemp("made") / "pairs.jsonl", [loaded("chat")]) as page:
        page.state()
        yield page.url


def test_it_is_guarded_as_the_server_is(page_url: str) -> None:
    import httpx

    assert httpx.get(f"{page_url}/api/state", headers={"host": "evil.example"}).status_code == 403
    for kind in ({}, {"content-type": "text/plain"}):  # What a page elsewhere may send.
        got = httpx.post(f"{page_url}/api/undo", content=b'{"number": 0}', headers=kind)
        assert (got.status_code, "application/json" in got.text) == (400, True)
    page = httpx.get(page_url)
    assert "default-src 'none'" in page.headers["content-security-policy"]
    named = re.findall(r'(?:href|src)="(/[^"]*)"', page.text)
    assert set(named) == {"/static/style.css", "/static/compare.css", "/static/compare.js"}
    for path in [*named, "/static/api.js"]:
        assert httpx.get(page_url + path).status_code == 200
    assert httpx.get(f"{page_url}/static/app.js").status_code == 404
    for file in FOLDER.iterdir():
        assert not re.search(r"https?://|//cdn|@import", file.read_text(encoding="utf-8")), file.name
