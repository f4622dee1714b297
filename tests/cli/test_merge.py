"""A base with adapters, in every command that takes one: alike by itself, as RUN+ADAPTER, and merged."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import httpx
import pytest
from cli.adapted import peft_folder, tune
from cli.helpers import TINY, Quoth, start_process
from cli.test_bad_input import is_a_sentence

ASK = ["--prompt", "the ", "--tokens", "30", "--temperature", "0", "--threads", "1", "--json"]


@pytest.fixture
def tuned(here: Path) -> Path:
    return tune(here / "runs/first", here / "runs/tuned")


def written(quoth: Quoth, run: str) -> str:
    result = quoth("sample", run, *ASK)
    assert (result.code, result.err) == (0, "")
    text: str = json.loads(result.out)["samples"][0]["text"]
    return text


def test_the_same_text_however_the_adapters_are_named(quoth: Quoth, here: Path, tuned: Path) -> None:
    text = written(quoth, "tuned")
    assert text != written(quoth, "first")
    peft_folder(tuned, here / "theirs")
    assert written(quoth, "first+tuned") == text == written(quoth, "first+theirs")
    assert written(quoth, "runs/first+runs/tuned") == text
    assert json.loads(quoth("sample", "first+tuned", *ASK).out)["run"] == "first+tuned"


def test_a_merged_run_is_complete(quoth: Quoth, here: Path, tuned: Path) -> None:
    text = written(quoth, "tuned")
    peft_folder(tuned, here / "theirs")
    for number, name in enumerate(("tuned", "first+tuned", "first+theirs")):
        out = json.loads(quoth("merge", name, "--out", f"merged{number}", "--json").out)
        assert out["run"] == f"merged{number}"
    assert quoth("merge", "tuned").code == 0
    shutil.rmtree("runs/first")
    for number in range(3):
        assert written(quoth, f"merged{number}") == text
        assert quoth("verify", f"merged{number}").code == 0
    assert "The complete run is in" not in quoth("merge", "merged0").out


@pytest.mark.parametrize("run", ["tuned", "first+tuned"])
def test_an_export_is_merged(quoth: Quoth, here: Path, tuned: Path, run: str) -> None:
    text, paths = written(quoth, "tuned"), set()
    for number, to in enumerate(("hf", "gguf")):
        paths |= {json.loads(quoth("export", name, "--to", to, "--json").out)["path"] for name in ("first", run)}
        assert len(paths) == 2 * (number + 1)  # The base's own export stays as it is.
        path = json.loads(quoth("export", run, "--to", to, "--json").out)["path"]
        quoth("import", path, "--out", f"runs/from-{to}")
        assert written(quoth, f"from-{to}") == text


def test_eval_and_init_see_the_adapters(quoth: Quoth, here: Path, tuned: Path) -> None:
    quoth("merge", "tuned", "--out", "merged")
    runs = ("tuned", "merged", "first+tuned", "first")
    losses = [json.loads(quoth("eval", run, "--data", "text.txt", "--json").out)["loss"] for run in runs]
    assert losses[0] == losses[2] == pytest.approx(losses[1], rel=1e-5) != pytest.approx(losses[3], rel=1e-2)
    flags = [*TINY[TINY.index("--batch") :], "--json"]
    begun = [json.loads(quoth("train", "text.txt", "--init", run, *flags).out) for run in ("tuned", "merged")]
    assert begun[0]["validation_loss"] == begun[1]["validation_loss"]


def test_chat_takes_adapters(quoth: Quoth, here: Path, tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    for run in ("tuned", "first+tuned"):
        lines = iter(["the king", "/quit"])
        monkeypatch.setattr("builtins.input", lambda prompt, lines=lines: next(lines))
        said.append(json.loads(quoth("chat", run, "--tokens", "5", "--threads", "1", "--json").out)["messages"])
    assert said[0] == said[1] and len(said[0]) == 2


def test_a_server_lists_a_base_and_the_base_with_adapters(quoth: Quoth, here: Path, tuned: Path) -> None:
    wanted = {run: written(quoth, run) for run in ("first", "first+tuned")}
    process = start_process("serve", "first", "first+tuned", "--port", "0", "--threads", "1", "--json")
    assert process.stdout
    try:
        url = json.loads(process.stdout.readline())["url"]
        listed = httpx.get(f"{url}/v1/models", timeout=30).json()["data"]
        assert [model["id"] for model in listed] == ["first", "first+tuned"]
        prints = set()
        for run, text in wanted.items():
            asked = {"model": run, "prompt": "the ", "max_tokens": 30, "temperature": 0}
            got = httpx.post(f"{url}/v1/completions", json=asked, timeout=30).json()
            assert got["choices"][0]["text"] == text
            prints.add(got["system_fingerprint"])
        assert len(prints) == 2
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert "Traceback" not in errors


def test_a_run_with_a_plus_in_its_name_is_that_run(quoth: Quoth, here: Path, tuned: Path) -> None:
    Path("runs/first").rename("runs/a+b")
    text = written(quoth, "a+b")
    tune(Path("runs/a+b"), Path("runs/c+d"))
    assert written(quoth, "a+b+c+d") == written(quoth, "c+d") != text


def test_another_base_of_the_same_shape_is_warned_of(quoth: Quoth, here: Path, tuned: Path) -> None:
    quoth("train", "text.txt", *TINY, "--seed", "5", "--out", "runs/other")
    result = quoth("sample", "other+tuned", *ASK)
    assert result.code == 0
    assert "tuned was trained on" in result.err
    assert "may fit" in result.err


def test_what_does_not_fit_is_one_sentence(quoth: Quoth, here: Path, tuned: Path) -> None:
    quoth("train", "text.txt", *TINY, "--width", "64", "--out", "runs/wide")
    quoth("train", "text.txt", *TINY, "--tokenizer", "bytes", "--out", "runs/bytes")
    peft_folder(tuned, here / "theirs")
    (here / "empty").mkdir()
    cases = {
        "first+first": "first holds no adapters: a run that was tuned with --lora",
        "frist+tuned": "There is no run 'frist' (did you mean 'first'?)",
        "first+tunde": "There is no run 'tunde' (did you mean 'tuned'?)",
        "first+": "RUN+ADAPTER names a run and adapters, not 'first+'.",
        "+tuned": "RUN+ADAPTER names a run and adapters, not '+tuned'.",
        "first+empty": "is not a run",
        "wide+tuned": "tuned is for another base than wide: its width is 32, not 64.",
        "bytes+tuned": "tuned is for another base than bytes: its vocabulary is 23, not 256.",
        "wide+theirs": "theirs is for another base: its",
        "tuned+tuned": "The model has adapters already; merge them into its weights first.",
    }
    for name, said in cases.items():
        for command in ("sample", "merge", "chat"):
            assert said in is_a_sentence(quoth(command, name)), name
    assert "first has no adapters, so there is nothing to merge." in is_a_sentence(quoth("merge", "first"))
    assert "merged exists already" not in quoth("merge", "tuned", "--out", "merged").err
    assert "merged exists already" in is_a_sentence(quoth("merge", "tuned", "--out", "merged"))


def test_a_base_that_is_gone_is_one_sentence(quoth: Quoth, here: Path, tuned: Path) -> None:
    assert quoth("verify", "tuned").code == 0
    shutil.rmtree("runs/first")
    for command in ("sample", "merge", "export", "eval", "chat"):
        said = is_a_sentence(quoth(command, "tuned"))
        assert "holds adapters for the base" in said and "which is missing" in said
    result = quoth("verify", "tuned")
    assert result.code == 1 and "which is missing" in " ".join(result.out.split())
