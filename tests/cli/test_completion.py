"""Completion scripts: bash's is run, zsh's and fish's are checked by their shells where these are here."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from cli.helpers import Quoth

from quoth.cli.completion import places
from quoth.cli.dispatch import COMMANDS, arguments_of

HARNESS = 'source ./quoth.bash; COMP_WORDS=({words}); COMP_CWORD={last}; _quoth; printf "%s\\n" "${{COMPREPLY[@]}}"'


@pytest.fixture
def scripts(here: Path, quoth: Quoth) -> Path:
    for shell in ("bash", "zsh", "fish"):
        result = quoth("completion", shell)
        assert result.code == 0
        (here / f"quoth.{shell}").write_text(result.out)
    return here


def completed(*words: str) -> list[str]:
    script = HARNESS.format(words=shlex.join(words), last=len(words) - 1)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash(scripts: Path) -> None:
    (scripts / "with space").mkdir()
    assert completed("quoth", "") == [*COMMANDS, "--help", "--version"]
    assert completed("quoth", "tr") == ["train"]
    assert completed("quoth", "train", "--pre") == ["--preset"]
    assert completed("quoth", "train", "--preset", "g") == ["gpu", "gpt2"]
    assert completed("quoth", "train", "--preset", "=", "lap") == ["laptop"]
    assert completed("quoth", "train", "text.txt", "--mlp", "") == ["relu", "gelu", "swiglu"]
    assert completed("quoth", "train", "--tied", "") == ["true", "false"]
    assert completed("quoth", "train", "--steps", "") == []
    assert completed("quoth", "train", "te") == ["text.txt"]
    assert completed("quoth", "train", "sh") == ["shakespeare"]
    assert completed("quoth", "train", "--resume", "fi") == ["first"]
    assert completed("quoth", "sample", "f") == ["first"]
    assert completed("quoth", "sample", "l") == ["latest"]
    assert completed("quoth", "eval", "--against", "l") == completed("quoth", "tune", "--teacher", "l") == ["latest"]
    assert completed("quoth", "eval", "first", "--checkpoint", "") == ["best", "last"]
    assert completed("quoth", "eval", "--data", "t") == ["text.txt"]
    assert completed("quoth", "config", "lec") == ["lecture"]
    assert completed("quoth", "config", "--config", "quoth.b") == ["quoth.bash"]
    assert completed("quoth", "data", "--tokenizer", "b") == ["bytes", "bpe:1024"]
    assert completed("quoth", "completion", "") == ["bash", "zsh", "fish"]
    assert completed("quoth", "runs", "--") == ["--json", "--help"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_flag_is_there_and_the_shell_can_read_it(shell: str, scripts: Path) -> None:
    script = (scripts / f"quoth.{shell}").read_text()
    for command in COMMANDS:
        for place in places(arguments_of(command)):
            if not place.argument.positional:
                assert (f"-l {place.argument.flag[2:]} " if shell == "fish" else place.argument.flag) in script
            assert place.about, place.argument.name
    assert "None" not in script
    if shutil.which(shell):
        check = "--no-execute" if shell == "fish" else "-n"
        subprocess.run([shell, check, f"quoth.{shell}"], cwd=scripts, timeout=30, check=True)
