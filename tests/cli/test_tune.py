"""`quoth tune`, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quoth.cli.dispatch import dispatch
from quoth.cli.tune import STAGES
from quoth.recipes.tune_config import USES
from quoth.recipes.tuning import KINDS, PRESETS

SHAPE = "--layers 1 --width 32 --context 128 --batch 4 --steps 5 --sample-tokens 0"
MACHINE = "--device cpu --compile off --threads 1"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("the king loves the sea and the queen loves the night " * 120)
    rows = [{"messages": [_said("user", "the " + "sea " * n), _said("assistant", "the king")]} for n in range(1, 9)]
    Path("chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert dispatch(["train", "text.txt", "--out", "base", *SHAPE.split(), *MACHINE.split()]) == 0


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def test_a_run_is_finetuned_and_answers(capsys: pytest.CaptureFixture[str]) -> None:
    tune = ["tune", "sft", "base", "chats.jsonl", "--out", "tuned", "--steps", "3", *MACHINE.split(), "--json"]
    assert dispatch(tune) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["steps"] == 3 and said["data"] == "chats.jsonl" and 0 <= said["ended"] <= 1
    config = Path("tuned/config.toml").read_text()
    assert 'stage = "sft"' in config and "[tune]" in config
    assert dispatch(["sample", "tuned", "--tokens", "5"]) == 0
    assert dispatch(["verify", "tuned"]) == 0


def test_a_run_learns_from_ratings_in_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"the {'sea ' * n},the king,{'true' if n % 2 else 'false'}\n" for n in range(1, 9)]
    Path("rated.csv").write_text("prompt,completion,label\n" + "".join(rows))
    tune = ["tune", "kto", "base", "rated.csv", "--out", "tuned", "--steps", "2", *MACHINE.split(), "--json"]
    assert dispatch(tune) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["steps"] == 2 and 0 <= said["accuracy"] <= 1 and said["kl"] >= 0


def test_a_run_learns_from_a_teacher(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tune", "distill", "base", "text.txt", "--teacher", "base", "--steps", "2", "--out", "taught"]
    assert dispatch([*words, *MACHINE.split(), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["steps"] == 2 and said["kl"] >= 0 and said["cross_entropy"] > 0
    assert dispatch(["eval", "taught", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stage"] == "distill"
    assert dispatch(["eval", "taught", "--against", "base", "--reward", "ends"]) == 2
    assert "taught has held out no prompts" in capsys.readouterr().err
    assert dispatch(["eval", "taught", "--data", "text.txt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bits_per_byte"] > 0
    Path("texts.jsonl").write_text(json.dumps({"text": "the king and the sea"}) + "\n")
    assert dispatch(["eval", "taught", "--data", "texts.jsonl", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bits_per_byte"] > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sftt", "base", "chats.jsonl"], "There is no stage 'sftt' (did you mean 'sft'?)"),
        (["sft", "base"], "needs DATA: conversations"),
        (["kto", "base"], "needs DATA: rated answers"),
        (["kto", "base", "chats.jsonl"], "chats.jsonl, line 1: A rating has prompt, completion and label"),
        (["kto", "base", "chats.jsonl", "--group", "2"], "There is no flag --group"),
        (["distill", "base"], "needs DATA: texts or conversations"),
        (["distill", "base", "text.txt"], "needs --teacher"),
        (["sft", "nowhere", "chats.jsonl"], "There is no run 'nowhere'"),
        (["sft", "base", "nothing.jsonl"], "nothing.jsonl"),
        (["sft", "base", "bad.jsonl"], "bad.jsonl, line 1"),
        (["sft", "base", "chats.jsonl", "--beta", "1"], "There is no flag --beta"),
        (["sft", "base", "chats.jsonl", "--lora", "4"], "has no chat tokens yet"),
        (["grpo", "base", "chats.jsonl"], "needs --reward"),
        (["grpo", "base", "chats.jsonl", "--reward", "endss"], "There is no rule 'endss'"),
        (["grpo", "base", "chats.jsonl", "--reward", "ends", "--answer-tokens", "99"], "give --answer-tokens"),
    ],
)
def test_bad_input_is_one_sentence(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.jsonl").write_text('{"messages": [{"role": "narrator", "content": "Once"}]}\n')
    assert dispatch(["tune", *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.startswith("quoth: ") and told.count("\n") == 1
    assert not Path("runs").exists()


def test_eval_judges_what_was_tuned(capsys: pytest.CaptureFixture[str]) -> None:
    tune = ["tune", "sft", "base", "chats.jsonl", "--out", "tuned", "--steps", "3", *MACHINE.split(), "--json"]
    assert dispatch(tune) == 0
    known = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert dispatch(["eval", "tuned", "--checkpoint", "last", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["stage"] == "sft" and found["ended"] == known["ended"] and found["held_out"] >= 1
    assert dispatch(["eval", "tuned"]) == 0
    shown = capsys.readouterr().out
    assert "tuned on what it held out of chats.jsonl" in shown and "  plain text loss  " in shown
    assert dispatch(["eval", "tuned", "--data", "text.txt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens"] > 1000
    assert dispatch(["eval", "tuned", "--against", "base", "--reward", "ends", "--data", "chats.jsonl", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["total"] == 8 and found["win_rate_interval"][0] <= found["win_rate"] <= found["win_rate_interval"][1]
    assert dispatch(["eval", "tuned", "--against", "base", "--reward", "ends"]) == 0
    assert "with 95% confidence" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tuned", "--against", "base"], "needs both --against RUN and --reward REWARD"),
        (
            ["base", "--against", "base", "--reward", "ends"],
            "base has held out no prompts, since it was not tuned on any",
        ),
        (["base", "--against", "none", "--reward", "ends", "--data", "chats.jsonl"], "There is no run 'none'"),
        (
            ["base", "--against", "base", "--reward", "ends", "--data", "chats.jsonl", "--answer-tokens", "0"],
            "at least 1",
        ),
        (
            ["base", "--against", "base", "--reward", "ends", "--data", "chats.jsonl", "--answer-tokens", "128"],
            "a context",
        ),
        (["base", "--against", "base", "--reward", "endz", "--data", "chats.jsonl"], "There is no rule 'endz'"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dispatch(["eval", *words]) == 2
    told = capsys.readouterr().err
    assert said in told and told.startswith("quoth: ") and told.count("\n") == 1


def test_a_tuned_runs_config_is_not_for_training(capsys: pytest.CaptureFixture[str]) -> None:
    tune = ["tune", "sft", "base", "chats.jsonl", "--out", "tuned", "--steps", "1", *MACHINE.split(), "--json"]
    assert dispatch(tune) == 0
    assert dispatch(["train", "--config", "tuned/config.toml"]) == 2
    assert "tuned/config.toml is of a run that was tuned; give it to `quoth tune sft`" in capsys.readouterr().err


def test_stages_are_the_same_everywhere() -> None:
    assert STAGES.keys() == KINDS.keys() == PRESETS.keys() <= USES.keys()


def test_help_lists_the_stages(capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch(["tune", "--help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {stage} " in listed for stage in STAGES)
    with pytest.raises(SystemExit):
        dispatch(["tune", "ppo", "--help"])
    shown = capsys.readouterr().out
    assert "--clip-ratio" in shown and "--replay" not in shown
