"""What each command prints, for a person and as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from cli.helpers import MACHINE, TINY, Quoth, Result, start_process, write_text

from quoth.cli.dispatch import COMMANDS

LOADED = """
import sys
import quoth.__main__
sys.argv = ["quoth", {argument!r}]
try:
    quoth.__main__.main()
except SystemExit:
    print(sorted({{"torch", "tyro", "rich", "numpy"}} & set(sys.modules)))
"""


@pytest.mark.parametrize("argument", ["--help", "--version", "trian"])
def test_help_imports_nothing_heavy(argument: str) -> None:
    code = LOADED.format(argument=argument)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_lists_every_command(quoth: Quoth) -> None:
    for arguments in ([], ["--help"], ["-h"], ["help"]):
        result = quoth(*arguments)
        assert result.code == 0
        assert all(f"  {name} " in result.out for name in COMMANDS)
    assert max(map(len, result.out.splitlines())) <= 80
    assert quoth("--version").out.startswith("quoth ")


def test_help_is_shown_however_it_is_asked_for(quoth: Quoth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = quoth("train", "--help").out
    assert "usage: quoth train" in shown
    for arguments in (["train", "help"], ["help", "train"], ["--help", "train"], ["launch", "--json", "train", "-h"]):
        assert quoth(*arguments) == Result(0, shown, "")
    assert "usage: quoth launch" in quoth("launch", "help").out
    assert "did you mean 'train'?" in quoth("help", "trian").err
    # Help in place of a value is one, and so is a text that is named help.
    assert "There is no run '--help'" in quoth("train", "--resume", "--help").err
    (tmp_path / "help").touch()
    assert "help is empty" in quoth("train", "help").err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_takes_json(command: str, quoth: Quoth) -> None:
    result = quoth(command, "--help")
    assert result.code == 0
    assert f"usage: quoth {command}" in result.out
    assert "--json" in result.out
    assert "None" not in result.out


def test_train_as_json(quoth: Quoth, here: Path) -> None:
    result = quoth("train", "text.txt", *TINY, "--json")
    assert result.code == 0
    value = json.loads(result.out)
    assert {"run", "folder", "steps", "seconds", "tokens_per_second", "validation_loss", "bits_per_byte"} <= set(value)
    assert value["steps"] == 6
    assert value["tokens"] == 6 * 4 * 32
    assert 0 < value["validation_loss"] < 3.5
    assert (here / value["folder"] / "config.toml").is_file()
    assert "validation" in result.err


def test_train_for_a_person(quoth: Quoth, here: Path) -> None:
    result = quoth("train", "text.txt", *TINY, "--out", "second")
    assert result.err == ""
    lines = result.out.splitlines()
    assert lines[0].startswith("text   text: 20.0k characters; 18.0k tokens for training, 2.0k for validation")
    assert lines[1].startswith("model  modern: ")
    assert "1 layer of width 32, context 32, vocabulary 23 (characters)" in lines[1]
    assert lines[2] == "run    6 steps on the CPU, 1 thread in float32, 4 windows of 32 tokens a step"
    assert lines[-1] == '  quoth sample second --prompt "..."'
    assert "compil" not in result.out
    assert (here / "second" / "summary.json").is_file()


def test_a_run_is_the_same_again(quoth: Quoth, here: Path) -> None:
    again = json.loads(quoth("train", "text.txt", *TINY, "--json").out)
    first = json.loads((here / "runs/first/summary.json").read_text())
    assert again["validation_loss"] == first["validation_loss"]


def test_a_runs_config_makes_the_same_run(quoth: Quoth, here: Path) -> None:
    again = json.loads(quoth("train", "--config", "runs/first/config.toml", "--json").out)
    first = json.loads((here / "runs/first/summary.json").read_text())
    assert again["validation_loss"] == first["validation_loss"]


def test_eval(quoth: Quoth, here: Path) -> None:
    value = json.loads(quoth("eval", "first", "--json").out)
    assert {"loss", "bits_per_byte", "perplexity", "tokens"} <= set(value)
    summary = json.loads((here / "runs/first/summary.json").read_text())
    assert value["loss"] == pytest.approx(summary["validation_loss"], rel=1e-5)
    assert value["tokens"] == 1999
    # All of the text: every character but the first is predicted.
    assert json.loads(quoth("eval", "--data", "text.txt", "--json").out)["tokens"] == 19_999
    assert "nothing sampled" in quoth("eval", "first").out


def test_eval_of_a_name_with_brackets(quoth: Quoth, here: Path) -> None:
    write_text(here / "[bold]x.txt", 500)
    assert "[bold]x.txt" in quoth("eval", "first", "--data", "[bold]x.txt").out


def test_sample(quoth: Quoth, here: Path) -> None:
    value = json.loads(quoth("sample", "--prompt", "the ", "--tokens", "20", "--count", "3", "--json").out)
    assert [len(sample["text"]) for sample in value["samples"]] == [20] * 3
    assert len({sample["text"] for sample in value["samples"]}) == 3
    result = quoth("sample", "first", "--prompt", "the ", "--tokens", "20", "--json")
    assert result.err == ""
    text = json.loads(result.out)["samples"][0]["text"]
    assert quoth("sample", "runs/first", "--prompt", "the ", "--tokens", "20").out == f"the {text}\n"
    assert quoth("sample", "first", "--prompt", "the ", "--tokens", "40").err.count("\n") == 1
    several = quoth("sample", "first", "--tokens", "5", "--count", "2").out
    assert "1 of 2" in several
    assert "2 of 2" in several


def test_sample_stops(quoth: Quoth, here: Path) -> None:
    text = json.loads(quoth("sample", "first", "--tokens", "25", "--json").out)["samples"][0]["text"]
    stop = text[10]
    stopped = quoth("sample", "first", "--tokens", "25", "--stop", "never", "--stop", stop, "--json").out
    assert json.loads(stopped)["samples"][0]["text"] == text[: text.index(stop)]


def test_config_can_be_fed_back(quoth: Quoth, here: Path) -> None:
    flags = ["--data", "text.txt", "--layers", "2", "--steps", "5", *MACHINE]
    printed = quoth("config", *flags)
    assert printed.code == 0
    assert printed.out.startswith("# laptop on text: ")
    (here / "saved.toml").write_text(printed.out)
    again = quoth("config", "gpt2", "--config", "saved.toml")
    assert tomllib.loads(again.out) == tomllib.loads(printed.out)
    values = json.loads(quoth("config", "lecture", *flags, "--json").out)
    assert values["model"]["layers"] == {"value": 2, "origin": "flag"}
    assert values["model"]["width"] == {"value": 384, "origin": "preset lecture"}
    assert values["model"]["vocabulary"] == {"value": 23, "origin": "the tokenizer"}
    assert values["optimizer"]["beta1"] == {"value": 0.9, "origin": "default"}
    assert values["parameters"] > 3_000_000


def test_config_says_what_the_dial_chose(quoth: Quoth, here: Path) -> None:
    values = json.loads(quoth("config", "--data", "text.txt", *MACHINE, "--json").out)
    assert values["run"]["minutes"] == {"value": 3.0, "origin": "preset laptop"}
    for name in ("layers", "width", "context"):
        assert values["model"][name]["origin"].startswith("dial")


def test_runs(quoth: Quoth, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(here / "other.txt", 5000)
    quoth("train", "text.txt", *TINY, "--steps", "40", "--out", "runs/long")
    quoth("train", "text.txt", *TINY, "--tokenizer", "bytes", "--out", "runs/bytes")
    quoth("train", "other.txt", *TINY, "--out", "runs/other")
    found = json.loads(quoth("runs", "--json").out)["runs"]
    assert [run["data"] for run in found] == ["other.txt"] + ["text.txt"] * 3
    assert found[1]["run"] == "long"
    bits = [run["bits_per_byte"] for run in found[1:]]
    assert bits == sorted(bits)
    keys = {"run", "data", "parameters", "steps", "seconds", "validation_loss", "bits_per_byte", "state", "tokenizer"}
    assert keys <= set(found[0])
    assert found[1]["steps"] == 40
    table = quoth("runs").out
    assert table.index("other.txt:") < table.index("text.txt, best first:")
    assert table.index(" long\n") < table.index(" first\n")
    monkeypatch.setattr("quoth.cli.runs.width", lambda: 60)
    assert max(map(len, quoth("runs").out.splitlines())) <= 60


def test_no_runs(quoth: Quoth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no runs" in quoth("runs").out
    assert json.loads(quoth("runs", "--json").out) == {"runs": []}


def test_output_that_nobody_reads(here: Path) -> None:
    process = start_process("data", "text.txt", "--tokenizer", "characters")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


def test_output_that_cannot_say_everything(here: Path) -> None:
    process = start_process("data", "text.txt", "--tokenizer", "characters", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "\\u2423" in out
