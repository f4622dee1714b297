"""Every flag of every command that takes a number is given numbers that nobody means: a sentence, or it works."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cli.helpers import MACHINE, SHAPE, Quoth, Result, contents

from quoth.cli.arguments import Argument, declared, parse
from quoth.cli.dispatch import COMMANDS, arguments_of
from quoth.recipes.recipe import TUNE_SETTINGS
from quoth.recipes.resume import CHANGEABLE
from quoth.recipes.tune_config import USES
from quoth.system.errors import InputError
from quoth.system.lock import LOCK

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits are Linux's")

VALUES = ("0", "1", "-1", str(10**9), str(2**63), "1e308", "", "x", "nan", "inf", "-inf")
FEW = ["--steps", "2", "--sample-tokens", "2"]
ANSWERS = ["--reward", "ends", "--answer-tokens", "4", "--answers", "4"]
TABLE = ["--on", "h100", "--steps", "9"]
# What is given besides the flag, all of it possible. In `train` everything else is given, in `config` next to nothing.
GIVEN = {
    "train": [["text.txt", *SHAPE, *MACHINE, *FEW], ["--resume", "second"]],
    "launch": [["--json"]],
    "sample": [["first", "--tokens", "2", "--threads", "1"]],
    "chat": [["first", "--tokens", "2", "--threads", "1"]],
    "serve": [["first", "--port", "0", "--threads", "1"]],
    "studio": [["first", "--port", "0"]],
    "ladder": [["text.txt", "--rung", "bigram", "--steps", "2", "--seeds", "1"]],
    "explain": [["batches", "--data", "text.txt"]],
    "tune": [
        ["sft", "first", "chats.jsonl", *MACHINE, *FEW],
        ["kto", "first", "rated.jsonl", *MACHINE, *FEW],
        ["distill", "first", "text.txt", "--teacher", "first", *MACHINE, *FEW],
        ["ppo", "first", "chats.jsonl", *MACHINE, *FEW, *ANSWERS],
        ["grpo", "first", "chats.jsonl", *MACHINE, *FEW, *ANSWERS, "--group", "2"],
    ],
    "eval": [["first", "--data", "chats.jsonl", "--against", "first", "--reward", "ends"]],
    "demo": [["rlhf", "--base", "first"]],
    "config": [["--data", "text.txt", *MACHINE]],
    "plan": [["laptop", "--data", "text.txt", *MACHINE, *TABLE], ["gpt2"]],
}
AFTER = {"launch": ["train"]}
# Flags for how much there is to do: much of it takes long, which is no mistake. After QUICK seconds of a processor such
# a command is taken to be at work, and after LONG seconds any other one to hang.
HOW_MUCH = {"minutes", "steps", "accumulate", "batch", "seeds", "tokens", "count", "sample_tokens", "max_tokens"}
QUICK, LONG = 1, 15


kind_of = cache(arguments_of)


def numbers(command: str) -> list[Argument]:
    return [a for a in declared(kind_of(command)) if a.kind in (int, float)]


CASES = [
    (name, given, a)
    for name in COMMANDS
    for given in GIVEN.get(name, [[]])
    for a in numbers(name)
    if "--resume" not in given or a.name in CHANGEABLE
    # What all training has is tried with `train`.
    if name != "tune" or a.name in TUNE_SETTINGS.intersection(USES[given[0]])
]


@pytest.fixture(scope="module")
def fork_server() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("fork_server.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="module")
def place(workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the workplace, where commands may leave what they like."""
    here = shutil.copytree(workplace, tmp_path_factory.mktemp("numbers") / "here")
    says = ["the king", "the sea", "a king", "a sea"]
    messages = [[{"role": "user", "content": one}, {"role": "assistant", "content": "the king"}] for one in says]
    (here / "chats.jsonl").write_text("".join(json.dumps({"messages": one}) + "\n" for one in messages))
    rated = [{"prompt": one, "completion": "the king", "label": "a" in one} for one in says]
    (here / "rated.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rated))
    return here


@pytest.mark.parametrize(("command", "given", "flag"), CASES, ids=lambda case: getattr(case, "flag", None))
def test_a_number_is_taken_or_refused_in_a_sentence(
    command: str,
    given: list[str],
    flag: Argument,
    quoth: Quoth,
    fork_server: subprocess.Popen[str],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert given, f"say in GIVEN what `quoth {command}` needs"
    monkeypatch.chdir(place)
    faults: dict[str, str] = {}
    for value in VALUES:
        if flag.name == "minutes":
            given = without("--steps", given)
        arguments = [command, *without(flag.flag, given), f"{flag.flag}={value}", *AFTER.get(command, [])]
        if is_refused(command, arguments):
            fault = fault_of(quoth(*arguments), flag)
        else:
            anew(place / "runs")
            before = contents(place)
            result = asked(fork_server, flag, arguments, place)
            fault = fault_of(result, flag) or loss(result, before, contents(place))
        if fault:
            faults[value] = fault
    assert not faults


def anew(runs: Path) -> None:
    """The first run, and a copy of it that may go on."""
    for run in runs.iterdir():
        if run.name != "first":
            shutil.rmtree(run)
    shutil.copytree(runs / "first", runs / "second")


def without(flag: str, given: list[str]) -> list[str]:
    at = given.index(flag) if flag in given else len(given)
    return given[:at] + given[at + 2 :]


def is_refused(command: str, arguments: list[str]) -> bool:
    """Whether the value is refused for what it is, before anything is done that might take long."""
    end = -len(AFTER[command]) if command in AFTER else None
    try:
        parse(kind_of(command), arguments[1:end], command)
    except InputError:
        return True
    return False


def asked(fork_server: subprocess.Popen[str], flag: Argument, arguments: list[str], folder: Path) -> Result:
    assert fork_server.stdin is not None and fork_server.stdout is not None
    seconds = QUICK if flag.name in HOW_MUCH else LONG
    what: dict[str, Any] = {"arguments": arguments, "folder": str(folder), "stdin": "the king\n", "seconds": seconds}
    fork_server.stdin.write(json.dumps(what) + "\n")
    return Result(**json.loads(fork_server.stdout.readline()))


def fault_of(result: Result, flag: Argument) -> str:
    """What is wrong with an answer, if anything is."""
    code, said = result.code, result.out + result.err
    if "Traceback" in said or "Warning" in result.err:
        return said[-2000:]
    if flag.name in HOW_MUCH and code in (-signal.SIGKILL, -signal.SIGXCPU):
        return ""
    if code not in (0, 2):
        return f"exit code {code}: {said[-1000:]}"
    if code == 2 and not (result.err.startswith("quoth: ") and result.err.count("\n") == 1):
        return f"no sentence: {result.err!r}"
    return ""


def loss(result: Result, before: dict[str, bytes], after: dict[str, bytes]) -> str:
    """What is lost or left half written, if anything is; the run that went on may have grown.

    What is killed leaves what it was writing.
    """
    lost = [name for name in before if after.get(name) != before[name] and not name.startswith("runs/second")]
    left = [name for name in after if result.code >= 0 and "/." in name.replace(f"/{LOCK}", "")]
    return f"lost: {lost}, left: {left}" if lost or left else ""
