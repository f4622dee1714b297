"""Whole files, as a learner writes them, and folders of them, as a teacher has them."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from cli.helpers import Quoth

from quoth.ladder.checker import check
from quoth.ladder.checker.check import judged
from quoth.ladder.checker.check_child import attempt
from quoth.ladder.exercises import named

RIGHT = {
    "averaging-1": (
        "def mean_before(x):\n    n = torch.arange(x.shape[1]).clamp(min=1)[:, None]\n    return (x.cumsum(1) - x) / n"
    ),
    "attention-2": (
        "def head(q, k, v):\n    T, K = q.shape\n    s = q @ k.T / K**0.5\n"
        "    s[~torch.tril(torch.ones(T, T)).bool()] = -torch.inf\n    return torch.softmax(s, 1) @ v"
    ),
    "heads-1": "def split_heads(x, heads):\n    return torch.stack(x.chunk(heads, dim=-1), dim=1)",
    "norm-1": "def layer_norm(x, eps):\n    return torch.nn.functional.layer_norm(x, x.shape[-1:], eps=eps)",
    "translation-2": (
        "def translate(word):\n    for i, c in enumerate(word):\n        if c in 'aeiou':\n"
        "            return word[i:] + word[:i] + 'ay' if i else word + 'way'\n    return word + 'ay'"
    ),
}
WRONG = {
    "averaging-1": (
        "def mean_before(x):\n    return x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]",
        "in its own mean",
    ),
    "attention-2": (
        "def head(q, k, v):\n    s = (q @ k.T / q.shape[1] ** 0.5).softmax(1)\n    return torch.tril(s) @ v",
        "hidden after the softmax",
    ),
    "heads-1": (
        "def split_heads(x, heads):\n    return x.reshape(x.shape[0], heads, x.shape[1], -1)",
        "times are mixed",
    ),
    "norm-1": (
        "def layer_norm(x, eps):\n    return (x - x.mean(-1, True)) / (x.var(-1, keepdim=True) + eps) ** 0.5",
        "divided by C − 1",
    ),
    "scaling-1": ("def scale(head_size):\n    return 1 / head_size", "counts squared"),
}


def write(name: str, code: str, file: str = "mine.py") -> str:
    Path(file).parent.mkdir(exist_ok=True)
    Path(file).write_text(f"# exercise: {name}\nimport torch\n\n{code}\n", encoding="utf-8")
    return file


def judge(name: str, code: str) -> str | None:
    names: dict = {}
    exec(f"import torch\n{code}", names)
    known = named(name)
    return judged(known, attempt(known, names[known.name], known.cases()))


@pytest.mark.parametrize("name", RIGHT)
def test_right_code_passes(name: str) -> None:
    assert judge(name, RIGHT[name]) is None


@pytest.mark.parametrize("name", WRONG)
def test_wrong_code_is_told_its_mistake(name: str) -> None:
    code, said = WRONG[name]
    assert said in str(judge(name, code))


def test_a_file_is_checked_apart_from_what_it_prints(quoth: Quoth, here: Path) -> None:
    code = "print('hello')\ndef scale(head_size):\n    print('again' * 1000)\n    return head_size**-0.5"
    result = quoth("exercise", "check", write("scaling-1", code), "--json")
    assert json.loads(result.out) == {"exercise": "scaling-1", "right": True, "mistake": None}
    assert result.code == 0 and result.err.startswith("hello\nagain") and len(result.err) < 2100


def test_what_an_exercise_prints_can_be_checked(quoth: Quoth, here: Path) -> None:
    Path("mine.py").write_text(quoth("exercise", "masks-2").out, encoding="utf-8")
    result = quoth("exercise", "check", "mine.py")
    assert result.code == 1 and result.out == "masks-2: window_mask(6, 3) should be a tensor (6, 6), not None.\n"


def test_a_solution_is_shown_after_a_try(
    quoth: Quoth, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUOTH_CACHE", str(tmp_path / "cache"))
    refused = quoth("exercise", "scaling-1", "--solution")
    assert refused.code == 2 and "once you have tried" in refused.err and refused.err.count("\n") == 1
    first = quoth("exercise", "scaling-1", "--hint").out
    assert quoth("exercise", "check", write("scaling-1", WRONG["scaling-1"][0])).code == 1
    second, solved = quoth("exercise", "scaling-1", "--hint").out, quoth("exercise", "scaling-1", "--solution")
    assert second.startswith(first) and second.count("\n- ") == 2
    assert solved.code == 0 and solved.out.startswith("# exercise: scaling-1\nfrom math import sqrt\n")
    assert json.loads(quoth("exercise", "scaling-1", "--solution", "--json").out)["solution"] == solved.out


def test_a_cache_that_cannot_be_written_costs_no_verdict(
    quoth: Quoth, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("full").write_text("a file")
    monkeypatch.setenv("QUOTH_CACHE", "full")
    monkeypatch.setattr(check, "check", lambda file: check.Verdict(file, "scaling-1", None))
    result = quoth("exercise", "check", "mine.py")
    assert (result.code, result.out) == (0, "scaling-1: right.\n") and "cannot be written" in result.err


def test_a_class_is_a_table(quoth: Quoth, here: Path) -> None:
    write("heads-1", f"torch.set_default_dtype(torch.float64)\n{RIGHT['heads-1']}", "class/ann.py")
    write("norm-1", WRONG["norm-1"][0], "class/ben.py")
    Path("class/cid.py").write_bytes(b"\xff")
    result = quoth("exercise", "check", "class", "--csv")
    head, ann, ben, cid = csv.reader(result.out.splitlines())
    assert result.code == 1 and head == ["file", "exercise", "right", "mistake", "seconds"]
    assert ann[:4] == [str(Path("class/ann.py")), "heads-1", "true", ""] and float(ann[4]) > 0
    assert ben[1:3] == ["norm-1", "false"] and "divided by C − 1" in ben[3]
    assert cid[1:] == ["", "false", f"{Path('class/cid.py')} cannot be read: it is not UTF-8.", "0.0"]


def test_a_class_is_lines_or_json(quoth: Quoth, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("heads-1", "", "class/ann.py")
    write("heads-1", "", "class/ben.py")
    right = check.Verdict(Path("x"), "heads-1", None)
    monkeypatch.setattr(check, "check_all", lambda files: (replace(right, file=file) for file in files))
    result = quoth("exercise", "check", "class")
    assert result.code == 0 and result.out.splitlines()[1:] == [
        f"{Path('class/ben.py')}: heads-1: right.",
        "2 of 2 are right.",
    ]
    files = json.loads(quoth("exercise", "check", "class", "--json").out)["files"]
    assert [(row["exercise"], row["right"]) for row in files] == [("heads-1", True)] * 2


def test_exercises_are_listed(quoth: Quoth) -> None:
    lines = quoth("exercise").out.splitlines()
    listed = json.loads(quoth("exercise", "--json").out)["exercises"]
    assert [line.split()[0] for line in lines] == list(listed) and listed["heads-2"].startswith("(B, H, T, K) →")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "mine.py cannot be read: No such file"),
        ("x = 1\n", "should begin with `# exercise: NAME`"),
        ("# exercise: norm-9\n", "There is no exercise 'norm-9'"),
        ("# exercise: norm-1\nraise ValueError('one\\ntwo')\n", "does not run: ValueError (line 2): one."),
    ],
)
def test_a_file_that_cannot_be_checked_is_a_sentence(quoth: Quoth, here: Path, text: str | None, said: str) -> None:
    if text is not None:
        Path("mine.py").write_text(text, encoding="utf-8")
    result = quoth("exercise", "check", "mine.py")
    assert result.code == 2 and said in result.err and result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("check", "needs FILE"),
        ("check mine.py --hint", "takes an exercise's name"),
        ("check mine.py --csv --json", "give one of them"),
        ("check class", "has no .py file to check"),
        ("norm-1 --hint --solution", "give one of them"),
        ("norm-1 --csv", "goes with `quoth exercise check FOLDER`"),
        ("norm-1 mine.py", "has no use for 'mine.py'"),
        ("norm-9 --hint", "There is no exercise 'norm-9'"),
        ("--solution", "needs the NAME"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(quoth: Quoth, here: Path, arguments: str, said: str) -> None:
    Path("class").mkdir()
    result = quoth("exercise", *arguments.split())
    assert result.code == 2 and said in result.err and result.err.count("\n") == 1
