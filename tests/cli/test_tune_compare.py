"""`quoth tune compare`: what it refuses, which prompts it takes, and that nothing is lost."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cli.helpers import MACHINE, Quoth, start_process

from quoth.cli.compare import Arguments
from quoth.recipes.comparing import LEAST_PAIRS
from quoth.tune.conversation import split
from quoth.tune.read import read_conversations, read_preferences

SAYS = ["the king", "the sea", "a king", "a sea", "the queen", "the night", "love", "a day", "thou art", "speak"]
COMPARE = ["tune", "compare", "--port", "0", "--threads", "1", "--tokens", "8", "--json"]


@pytest.fixture
def tuned(here: Path, quoth: Quoth) -> Path:
    """A place with conversations and a run that was finetuned on them."""
    rows = [{"messages": [_said("user", one), _said("assistant", "the king")]} for one in SAYS]
    Path("chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    steps = ["--steps", "2", "--sample-tokens", "0", "--held-out", "0.4"]
    assert quoth("tune", "sft", "first", "chats.jsonl", "--out", "runs/tuned", *steps, *MACHINE).code == 0
    return here


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@contextmanager
def page(*arguments: str) -> Iterator[tuple[httpx.Client, dict[str, Any], subprocess.Popen[str]]]:
    process = start_process(*COMPARE, *arguments)
    assert process.stdout
    try:
        told = json.loads(process.stdout.readline())
        with httpx.Client(base_url=told["url"], timeout=60) as client:
            yield client, told, process
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors


def decide(client: httpx.Client, choice: str) -> dict[str, Any]:
    number = client.get("/api/state").json()["comparison"]["number"]
    got = client.post("/api/decision", json={"number": number, "choice": choice, "seconds": 1})
    assert got.status_code == 200
    return got.json()  # type: ignore[no-any-return]


def test_what_it_refuses(here: Path, quoth: Quoth) -> None:
    Path("theirs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    Path("hello.jsonl").write_text('{"prompt": "the king"}\n{"prompt": "Grüße"}\n')
    Path("long.jsonl").write_text(json.dumps({"prompt": "the king " * 40}) + "\n")
    for arguments, said in (
        (["first", "--port", "99999"], "--port must lie in 0 to 65535"),
        (["first", "--pairs", "0"], "--pairs must lie in 1 to 1,000,000, not 0"),
        (["first", "--tokens", "0"], "--tokens must lie in 1 to"),
        (["first", "--threads", "-1"], "--threads must lie in 0 to"),
        (["first", "--temperature", "-1"], "temperature"),
        (["nowhere"], "There is no run 'nowhere'"),
        (["first", "--against", "nowhere"], "There is no run 'nowhere'"),
        (["first", "--against", "first"], "--against must name another run than first"),
        (["first", "--prompts", "nothing.jsonl"], "nothing.jsonl"),
        (["first", "--prompts", "hello.jsonl"], "hello.jsonl, line 2: "),
        (["first", "--prompts", "long.jsonl"], "All prompts are too long"),
        (["first", "--out", "theirs.jsonl"], "theirs.jsonl, line 1: this line was not written by `quoth tune compare`"),
        (["first", "--out", "runs"], "runs cannot be written: Is a directory"),
        (["first", "--against"], "--against needs a value"),
    ):
        got = quoth("tune", "compare", "--port", "0", "--threads", "1", *arguments)
        assert (got.code, said in got.err) == (2, True), got.err
        assert [line for line in got.err.splitlines() if line.startswith("quoth: ")] == [got.err.splitlines()[-1]]
    assert Path("theirs.jsonl").read_text().count("\n") == 1
    assert not list(Path().glob("*pairs*")) and not list(Path().glob("*.rest*"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        got = quoth("tune", "compare", "first", "--port", str(taken.getsockname()[1]))
        assert (got.code, "Address already in use" in got.err) == (2, True)


def test_help_and_a_word_that_is_nearly_right(quoth: Quoth) -> None:
    assert "compare" in quoth("tune", "--help").out
    shown = quoth("tune", "compare", "--help").out
    assert "usage: quoth tune compare" in shown and "None" not in shown
    assert "did you mean 'compare'?" in quoth("tune", "compar").err
    assert Arguments().run == "latest"


def test_a_run_that_was_only_trained_is_given_prompts_by_a_person(here: Path) -> None:
    with page("first") as (client, told, _):
        assert told.items() >= {"run": "first", "file": "first-pairs.jsonl", "prompts": 0, "decided": 0}.items()
        shown = client.post("/api/prompt", json={"text": "the king"}).json()["comparison"]
        assert max(len(shown[side]["text"]) for side in ("left", "right")) <= 8
        decide(client, "left")
    (row,) = map(json.loads, Path("first-pairs.jsonl").read_text().splitlines())
    assert (row["prompt"], row["chosen"]) == ("the king", shown["left"]["text"])


def test_nothing_is_lost_and_the_file_teaches(tuned: Path, quoth: Quoth) -> None:
    """The prompts are those that were held out; a process that is killed loses nothing; a reward model learns."""
    _, held = split(read_conversations("chats.jsonl"), held_out=0.4, seed=1337)
    with page("tuned", "--pairs", "24") as (client, told, process):
        assert told["prompts"] == len(held) > 1
        asked = {client.get("/api/state").json()["comparison"]["prompt"][0]["content"]}
        for n in range(20):
            state = decide(client, ("left", "right", "tie")[n % 5 % 3])
            asked.add(state["comparison"]["prompt"][0]["content"])
        assert asked == {one.prompt[0]["content"] for one in held}
        process.kill()
    with page("tuned", "--pairs", "24") as (client, told, _):
        assert told["decided"] == 20
        assert client.get("/api/state").json() == state
        refused = client.post("/api/training", json={"stage": "reward"})
        assert (refused.status_code, "are the least to train on" in refused.text) == (400, True)
    pairs = read_preferences("tuned-pairs.jsonl")
    assert len(pairs) == 16 and all(one.prompt[0]["content"] in asked for one in pairs)
    steps = ["--steps", "2", "--sample-tokens", "0", "--held-out", "0.4", *MACHINE, "--json"]
    for stage in ("reward", "dpo"):
        made = quoth("tune", stage, "tuned", "tuned-pairs.jsonl", *steps)
        assert made.code == 0 and json.loads(made.out)["steps"] == 2


@pytest.mark.slow
def test_a_reward_model_is_trained_from_the_page(tuned: Path) -> None:
    with page("tuned", "--pairs", "60") as (client, _, _):
        for _ in range(LEAST_PAIRS * 11 // 10 + 1):
            decide(client, "left")
        begun = client.post("/api/training", json={"stage": "reward"}).json()["training"]
        assert begun["commands"]["reward"] == "quoth tune reward tuned tuned-pairs.jsonl"
        while (told := client.get("/api/state").json()["training"])["runs"]:
            time.sleep(0.1)
    assert told["code"] == 0 and 0 <= told["accuracy"] <= 1
    made = told["then"].removeprefix("quoth tune ppo tuned PROMPTS --reward ")
    assert json.loads(Path(made, "summary.json").read_text())["accuracy"] == told["accuracy"]


def test_data_that_is_gone_leaves_the_prompts_to_a_person(tuned: Path) -> None:
    Path("chats.jsonl").unlink()
    process = start_process(*COMPARE, "tuned")
    assert process.stdout
    told = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert told["prompts"] == 0
    assert "cannot be taken, so you type them" in " ".join(errors.split())


def test_two_runs_are_compared_blind(tuned: Path) -> None:
    Path("prompts.jsonl").write_text('{"prompt": "the king"}\n{"prompt": "a sea"}\n')
    with page("tuned", "--against", "first", "--prompts", "prompts.jsonl", "--pairs", "3") as (client, told, _):
        assert told.items() >= {"against": "first", "prompts": 2, "file": "tuned-against-first.jsonl"}.items()
        for _ in range(3):
            state = decide(client, "left")
        assert state["done"] and state["score"]["wins"] + state["score"]["losses"] == 3
