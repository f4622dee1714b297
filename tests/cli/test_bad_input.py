"""Whatever is wrong is said in one line, ends with 2, and loses nothing."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from cli.helpers import MACHINE, SHAPE, TINY, Quoth, Result, contents, start_process, write_text

from quoth.text.sources import SOURCES

TRAIN = ["train", "text.txt", *TINY]


def is_a_sentence(result: Result) -> str:
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert result.err.startswith("quoth: ")
    assert "Traceback" not in result.out + result.err
    return result.err


# What is given, and what the sentence must say.
CASES: dict[str, tuple[list[str], list[str]]] = {
    "missing file": (["train", "nothing.txt", *TINY], ["nothing.txt", "neither a file or folder nor a named corpus"]),
    "unknown corpus": (["train", "shakespear", *TINY], ["did you mean 'shakespeare'?"]),
    "empty file": (["train", "empty.txt", *TINY], ["empty.txt is empty"]),
    "binary": (["train", "binary.dat", *TINY], ["binary"]),
    "one character": (["train", "same.txt", *TINY], ["one distinct character, 'a'"]),
    "shorter than a context": (["train", "short.txt", *TINY], ["The train split has 27 tokens", "needs 33"]),
    "short validation split": (["train", "medium.txt", *TINY], ["The validation split has 20 tokens", "needs 33"]),
    "empty folder": (["train", "hollow", *TINY], ["hollow holds no files"]),
    "unknown preset": ([*TRAIN, "--preset", "lapto"], ["did you mean 'laptop'?"]),
    "unknown flag": ([*TRAIN, "--layer", "3"], ["no flag --layer", "did you mean '--layers'?"]),
    "no such flag at all": ([*TRAIN, "--qqq", "3"], ["no flag --qqq", "quoth train --help"]),
    "short flag": ([*TRAIN, "-n", "3"], ["no flag -n"]),
    "positional as flag": (["train", "--data", "text.txt"], ["no flag --data", "without one"]),
    "one word too many": (["eval", "first", "more"], ["no use for 'more'"]),
    "one text too many": (["train", "text.txt", "more"], ["'more' is neither a file or folder"]),
    "flag without value": (["train", "text.txt", "--layers"], ["--layers needs a value"]),
    "value for a switch": (["train", "text.txt", "--json=yes"], ["--json takes no value"]),
    "not a number": ([*TRAIN, "--width", "wide"], ["--width must be a whole number, not 'wide'"]),
    "not a choice": ([*TRAIN, "--norm", "batchnorm"], ["--norm must be one of layernorm, rmsnorm"]),
    "not true or false": ([*TRAIN, "--tied", "maybe"], ["--tied must be", "true", "false", "'maybe'"]),
    "missing config": ([*TRAIN, "--config", "no.toml"], ["no.toml cannot be read"]),
    "config is no TOML": ([*TRAIN, "--config", "broken.toml"], ["broken.toml is not TOML"]),
    "unknown key": ([*TRAIN, "--config", "key.toml"], ["no setting 'widht'", "did you mean 'width'?"]),
    "unknown section": ([*TRAIN, "--config", "section.toml"], ["a section [modle]", "did you mean 'model'?"]),
    "key in the wrong section": ([*TRAIN, "--config", "misplaced.toml"], ["batch belongs in [run], not in [model]"]),
    "wrong type": ([*TRAIN, "--config", "type.toml"], ["layers must be a whole number, not 'three'"]),
    "heads": ([*TRAIN, "--heads", "3"], ["heads must divide width, but 3 does not divide 32"]),
    "minutes and steps": ([*TRAIN, "--minutes", "1"], ["minutes or steps, not both"]),
    "endless": (["train", "text.txt", "--minutes", "inf"], ["minutes must be a finite number, not inf"]),
    "not a number at all": ([*TRAIN, "--dropout", "nan"], ["dropout must be a finite number, not nan"]),
    "no heads": ([*TRAIN, "--heads", "0"], ["heads"]),
    "no width": ([*TRAIN, "--width", "0"], ["width must be at least 1"]),
    "no context": ([*TRAIN, "--context", "0"], ["context must be at least 1"]),
    "no batch": ([*TRAIN, "--batch", "-1"], ["batch must be at least 1"]),
    "negative layers": ([*TRAIN, "--layers", "-1"], ["layers must be 0 or more"]),
    "only heads": (["train", "text.txt", *MACHINE, "--heads", "0"], ["heads"]),
    "only head size": (["train", "text.txt", *MACHINE, "--head-size", "0"], ["head_size"]),
    "only context": (["train", "text.txt", *MACHINE, "--context", "-8"], ["context"]),
    "only key heads": (["train", "text.txt", *MACHINE, "--kv-heads", "0"], ["kv_heads"]),
    "only batch": (["train", "text.txt", *MACHINE, "--batch", "-8"], ["batch"]),
    "only minutes": (["train", "text.txt", *MACHINE, "--minutes", "-8"], ["minutes"]),
    "only steps": (["train", "text.txt", *MACHINE, "--steps", "-8"], ["steps"]),
    "negative": ([*TRAIN, "--learning-rate", "-1"], ["learning_rate must be 0 or more, not -1.0"]),
    "nothing to do": (["train", "text.txt", *SHAPE, *MACHINE, "--minutes", "0"], ["--minutes or --steps above 0"]),
    "unknown tokenizer": ([*TRAIN, "--tokenizer", "words"], ["characters, bytes, bpe:N", "'words'"]),
    "no separator": ([*TRAIN, "--separator", "%%"], ["'%%'"]),
    "unknown device": ([*TRAIN, "--device", "tpu"], ["'tpu' is not on this machine", "cpu"]),
    "out is taken": ([*TRAIN, "--out", "runs/first"], ["runs/first exists already"]),
    "out under a file": ([*TRAIN, "--out", "text.txt/run"], ["text.txt/run cannot be written"]),
    "too large a batch": ([*TRAIN, "--batch", "1000000000"], ["of memory", "--batch ", "would fit", "--accumulate"]),
    "too large a model": ([*TRAIN, "--width", "3000000", "--heads", "1"], ["not even a batch of 1 fits"]),
    "resume nothing": (["train", "--resume", "frist"], ["no run 'frist'", "did you mean 'first'?"]),
    "resume otherwise": (["train", "text.txt", "--resume", "first", "--kv-heads", "2"], ["leave out DATA, --kv-heads"]),
    "resume another preset": (["train", "--resume", "first", "--preset", "gpu"], ["leave out --preset"]),
    "no run": (["sample", "frist"], ["no run 'frist'", "did you mean 'first'?"]),
    "no run to judge": (["eval", "second"], ["no run 'second'"]),
    "not a run": (["sample", "hollow"], ["hollow is not a run, or it is broken"]),
    "unknown characters": (["sample", "first", "--prompt", "the Zoë"], ["'Z' at position 4", "'ë' at position 6"]),
    "temperature": (["sample", "first", "--temperature", "-1"], ["temperature must be 0 or more, not -1.0"]),
    "no tokens": (["sample", "first", "--tokens", "0"], ["tokens must be at least 1, not 0"]),
    "nothing to judge by": (["eval", "first", "--data", "nothing.txt"], ["nothing.txt"]),
    "binary to judge by": (["eval", "first", "--data", "binary.dat"], ["binary.dat looks like a binary file"]),
    "nothing in it to judge by": (["eval", "first", "--data", "empty.txt"], ["empty.txt is empty"]),
    "data of nothing": (["data", "nothing.txt"], ["nothing.txt"]),
    "data of an empty file": (["data", "empty.txt"], ["empty.txt is empty"]),
    "data by no tokenizer": (["data", "text.txt", "--tokenizer", "words"], ["'words'"]),
    "config of no preset": (["config", "lapto"], ["did you mean 'laptop'?"]),
    "no shell": (["completion"], ["needs SHELL: bash, zsh, fish"]),
    "unknown shell": (["completion", "tcsh"], ["SHELL must be one of bash, zsh, fish, not 'tcsh'"]),
    "mistyped help": (["train", "--hlep"], ["no flag --hlep", "did you mean '--help'?"]),
    "unknown command": (["trian"], ["no command 'trian'", "did you mean 'train'?"]),
}


@pytest.fixture
def bad_files(here: Path) -> Path:
    (here / "empty.txt").touch()
    (here / "latin.txt").write_bytes(b"a caf\xe9 " * 40)
    (here / "binary.dat").write_bytes(b"\x7fELF\0\0\0" * 40)
    (here / "same.txt").write_text("a" * 1000)
    (here / "short.txt").write_text("the king and the queen of love\n"[:30])
    write_text(here / "medium.txt", 200)
    (here / "hollow").mkdir()
    (here / "broken.toml").write_text("[run\n")
    (here / "key.toml").write_text("[model]\nwidht = 3\n")
    (here / "section.toml").write_text("[modle]\nwidth = 3\n")
    (here / "misplaced.toml").write_text("[model]\nbatch = 3\n")
    (here / "type.toml").write_text('[model]\nlayers = "three"\n')
    return here


@pytest.mark.parametrize("name", CASES)
def test_it_is_said_in_a_line_and_nothing_changes(name: str, quoth: Quoth, bad_files: Path) -> None:
    arguments, words = CASES[name]
    before = contents(bad_files)
    said = is_a_sentence(quoth(*arguments))
    for word in words:
        assert word in said
    assert contents(bad_files) == before


def test_json_has_no_output_then_but_the_sentence(quoth: Quoth, bad_files: Path) -> None:
    result = quoth("train", "empty.txt", *TINY, "--json")
    assert result.out == ""
    is_a_sentence(result)


def test_what_is_not_utf8_can_be_read_and_is_said(quoth: Quoth, bad_files: Path) -> None:
    result = quoth("train", "latin.txt", *TINY, "--context", "8", "--out", "runs/latin")
    assert result.code == 0
    assert "latin.txt is not UTF-8 (byte 5 is the first fault); it was read as cp1252, a guess." in result.out
    assert quoth("eval", "latin", "--json").code == 0
    result = quoth("eval", "latin", "--data", "latin.txt")
    assert result.code == 0
    assert "read as cp1252, a guess" in result.err


def test_a_flipped_byte_of_the_weights(quoth: Quoth, here: Path) -> None:
    weights = next(here.glob("runs/first/checkpoints/*/model.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for command in (["sample", "first"], ["eval", "first"], ["train", "--resume", "first"]):
        said = is_a_sentence(quoth(*command))
        assert "is broken: model.safetensors" in said


def test_a_config_that_was_cut(quoth: Quoth, here: Path) -> None:
    config = here / "runs/first/config.toml"
    whole = config.read_text()
    config.write_text(whole[: len(whole) // 3])
    for command in (["eval", "first"], ["train", "--resume", "first"]):
        assert "config.toml" in is_a_sentence(quoth(*command))


def test_a_text_that_changed(quoth: Quoth, here: Path) -> None:
    with (here / "text.txt").open("a") as file:
        file.write("sweet sea.\n")
    for command in (["eval", "first"], ["train", "--resume", "first"]):
        assert "text.txt has changed" in is_a_sentence(quoth(*command))
    assert quoth("eval", "first", "--data", "text.txt").code == 0


def test_a_prompt_longer_than_the_context_works_and_says_so_once(quoth: Quoth, here: Path) -> None:
    result = quoth("sample", "first", "--prompt", "the king " * 10, "--tokens", "5")
    assert result.code == 0
    assert result.err.count("\n") == 1
    assert "longer than the context of 32 tokens" in result.err
    assert result.out.startswith("the king " * 10)


def test_values_may_begin_with_a_dash(quoth: Quoth, here: Path) -> None:
    assert "'-' at position 0" in is_a_sentence(quoth("sample", "first", "--prompt", "--help"))


def test_a_disk_that_fills_up_keeps_the_last_checkpoint(
    quoth: Quoth, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = contents(here / "runs/first")

    def full(path: object, *rest: object) -> None:
        if (here / "runs/second/checkpoints/kept.json").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        said = is_a_sentence(quoth(*TRAIN, "--evaluate-every", "3", "--out", "runs/second"))
    assert "No space is left" in said
    assert [p.name for p in here.glob("runs/second/checkpoints/step-*")] == ["step-000003"]
    assert [path.name for path in here.glob("runs/second/**/.*")] == [".lock"]
    assert contents(here / "runs/first") == first
    assert quoth("sample", "second", "--tokens", "5").code == 0
    assert quoth("train", "--resume", "second").code == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_stdout_that_is_full(here: Path) -> None:
    with Path("/dev/full").open("w") as full:
        process = start_process("runs", stdout=full)
        _, err = process.communicate(timeout=60)
    assert "No space left" in is_a_sentence(Result(process.returncode, "", err))


def test_a_folder_that_may_not_be_written(quoth: Quoth, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Path.mkdir

    def forbidden(path: Path, *args: object, **kwargs: object) -> None:
        if "locked" in path.parts:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        make(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", forbidden)
    said = is_a_sentence(quoth(*TRAIN, "--out", "locked/run"))
    assert "locked/run cannot be written" in said
    assert "--out" in said


def test_without_a_compiler_it_trains_and_says_so_once(here: Path) -> None:
    process = start_process(*TRAIN, "--compile", "auto", PATH="", CXX="")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert (out + err).count("C++ compiler") == 1
    assert "Done" in out


def test_a_learning_rate_that_is_far_too_high(quoth: Quoth, here: Path) -> None:
    said = is_a_sentence(quoth(*TRAIN, "--learning-rate", "1e30"))
    assert "not finite" in said
    assert "a lower --learning-rate than 1e+30" in said
    assert "not finite" in is_a_sentence(quoth(*TRAIN, "--steps", "60", "--learning-rate", "1e30"))


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")]
)
def test_memory_that_is_not_there(error: Exception, quoth: Quoth, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("quoth.cli.runs.main", fails)
    assert "Memory ran out" in is_a_sentence(quoth("runs"))


def test_sources_that_cannot_be_got(quoth: Quoth, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUOTH_CACHE", str(here / "cache"))
    monkeypatch.setattr("quoth.text.sources._package_folder", lambda *names: here / "no such folder")
    monkeypatch.setattr("quoth.text.sources._download", lambda url: (_ for _ in ()).throw(OSError("no network")))
    assert set(SOURCES) >= {"shakespeare"}
    assert "Tiny Shakespeare" in is_a_sentence(quoth("train", "shakespeare", *TINY))


def test_runs_that_are_broken_are_listed_as_such(quoth: Quoth, here: Path) -> None:
    (here / "runs/empty").mkdir()
    shutil.copytree(here / "runs/first", here / "runs/cut")
    (here / "runs/cut/summary.json").write_text('{"run": "cu')
    shutil.copytree(here / "runs/first", here / "runs/killed")
    (here / "runs/killed/summary.json").unlink()
    result = quoth("runs")
    assert result.code == 0
    assert "killed (unfinished)" in result.out
    assert "empty  config.toml is not there" in result.out
    assert "cut  summary.json cannot be read" in result.out
