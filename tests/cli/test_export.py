"""`quoth export` and `quoth import`: a run goes out, and comes back as a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.helpers import MACHINE, TINY, Quoth

from quoth.text.tokenizer import read


@pytest.mark.parametrize("to", ["hf", "gguf"])
def test_out_and_back(to: str, quoth: Quoth, here: Path) -> None:
    out = json.loads(quoth("export", "first", "--to", to, "--json").out)
    assert Path(out["path"]).exists()
    back = json.loads(quoth("import", out["path"], "--out", "runs/back", "--json").out)
    assert back["context"] == 32
    ask = ["--prompt", "the ", "--tokens", "30", "--temperature", "0", "--json"]
    first, again = (json.loads(quoth("sample", run, *ask).out)["samples"] for run in ("first", "back"))
    assert first == again
    judged = [json.loads(quoth("eval", run, "--data", "text.txt", "--json").out) for run in ("first", "back")]
    # In GGUF there is a token more, which a model that has hardly learned does not think impossible.
    assert judged[0]["loss"] == pytest.approx(judged[1]["loss"], abs=1e-4 if to == "hf" else 0.1)
    assert "back" in quoth("runs").out
    assert quoth("verify", "back").code == 0


def test_the_card_and_the_modelfile_tell_of_the_run(quoth: Quoth, here: Path) -> None:
    quoth("export", "first", "--to", "gguf", "--dtype", "q8_0", "--out", "there")
    assert (here / "there" / "first-q8_0.gguf").is_file()
    assert "FROM ./first-q8_0.gguf" in (here / "there" / "Modelfile").read_text()
    loss = json.loads((here / "runs/first/summary.json").read_text())["validation_loss"]
    assert f"{loss:.4f}" in (here / "there" / "README.md").read_text()


def test_an_import_can_be_trained_on(quoth: Quoth, here: Path) -> None:
    quoth("export", "first", "--out", "there")
    quoth("import", "there", "--out", "runs/back")
    flags = [*MACHINE, "--batch", "4", "--steps", "3", "--sample-tokens", "0"]
    got = json.loads(quoth("train", "text.txt", "--init", "back", *flags, "--json").out)
    began = json.loads((here / "runs/first/summary.json").read_text())["validation_loss"]
    assert got["validation_loss"] < began + 0.05


def test_the_name_of_a_special_token_in_a_text_is_text(quoth: Quoth, here: Path) -> None:
    """This holds in sample and eval, and after each export and import."""
    quoth("train", "text.txt", *TINY, "--tokenizer", "gpt2", "--out", "runs/gpt2")
    for run, to, back in (("gpt2", "hf", "back"), ("back", "gguf", "again")):
        path = json.loads(quoth("export", run, "--to", to, "--json").out)["path"]
        quoth("import", path, "--out", f"runs/{back}")
    (here / "marked.txt").write_text("the king<|endoftext|>and the queen of the sea. " * 50)
    answers, losses = [], []
    for run in ("gpt2", "back", "again"):
        tokenizer = read(next((here / "runs" / run / "checkpoints").iterdir()))
        assert not set(tokenizer.special.values()) & set(tokenizer.encode("the king<|endoftext|>").tolist())
        ask = ["--prompt", "a<|endoftext|>", "--tokens", "8", "--temperature", "0", "--json"]
        answers.append(json.loads(quoth("sample", run, *ask).out)["samples"][0]["text"])
        losses.append(json.loads(quoth("eval", run, "--data", "marked.txt", "--json").out)["loss"])
    assert answers == [answers[0]] * 3
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["export", "nowhere"], "There is no run 'nowhere'"),
        (["export", "first", "--dtype", "q8_0"], "q8_0 is for --to gguf"),
        (["export", "first", "--out", "runs"], "exists already"),
        (["export", "first", "--to", "onnx"], "--to must be one of hf, gguf"),
        (["import", "nowhere"], "There is no nowhere"),
        (["import", "text.txt"], "is no GGUF file"),
        (["import", "HuggingFaceTB/SmolLM2-135M"], "`hf download HuggingFaceTB/SmolLM2-135M --local-dir FOLDER`"),
        (["import", "https://huggingface.co/openai-community/gpt2"], "`hf download openai-community/gpt2 --local-dir"),
        (["import", "runs"], "has no config.json"),
        (["import"], "needs PATH"),
        (["sample", "first", "--weights", "int4"], "--weights must be one of float32, bfloat16, int8"),
        (["sample", "first", "--lookup", "-1"], "--lookup must be at least 0, not -1"),
        (["sample", "first", "--repetition-penalty", "0"], "repetition_penalty must lie in [0.01, 100]"),
    ],
)
def test_what_cannot_be_is_said(arguments: list[str], said: str, quoth: Quoth, here: Path) -> None:
    got = quoth(*arguments)
    assert got.code == 2
    assert said in got.err
    assert got.err.count("\n") == 1


def test_stats_and_weights(quoth: Quoth, here: Path) -> None:
    ask = ["sample", "first", "--tokens", "20"]
    got = json.loads(quoth(*ask, "--json").out)
    assert {"tokens_per_second", "bound_tokens_per_second", "threads", "decoder"} <= got.keys()
    assert "a second, on" in quoth(*ask, "--stats").err
    assert "a second" not in quoth(*ask).err
    plain, quick = (quoth(*ask, "--lookup", n).out for n in ("0", "4"))
    assert plain == quick
    assert quoth(*ask, "--weights", "int8").code == 0
