"""Whole files, as a learner writes them: right ones, and ones with a mistake that has a name."""

import json
from pathlib import Path

import pytest
from cli.helpers import Quoth

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


def write(name: str, code: str) -> str:
    Path("mine.py").write_text(f"# exercise: {name}\nimport torch\n\n{code}\n", encoding="utf-8")
    return "mine.py"


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_file_passes(quoth: Quoth, here: Path, name: str) -> None:
    result = quoth("exercise", "check", write(name, RIGHT[name]))
    assert (result.code, result.out) == (0, f"{name}: right.\n")


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_told_its_mistake(quoth: Quoth, here: Path, name: str) -> None:
    code, said = WRONG[name]
    result = quoth("exercise", "check", write(name, code), "--json")
    assert result.code == 1
    answer = json.loads(result.out)
    assert answer["exercise"] == name and not answer["right"] and said in answer["mistake"]


def test_what_an_exercise_prints_can_be_checked(quoth: Quoth, here: Path) -> None:
    Path("mine.py").write_text(quoth("exercise", "masks-2").out, encoding="utf-8")
    result = quoth("exercise", "check", "mine.py")
    assert result.code == 1 and "window_mask(6, 3) is a tensor (6, 6), not None." in result.out


def test_what_a_file_prints_is_not_the_answer(quoth: Quoth, here: Path) -> None:
    code = "print('hello')\ndef scale(head_size):\n    print('again')\n    return head_size**-0.5"
    result = quoth("exercise", "check", write("scaling-1", code), "--json")
    assert json.loads(result.out) == {"exercise": "scaling-1", "right": True, "mistake": None}


@pytest.mark.parametrize("value", ["torch.ones(3)", "'text'", "None", "[1, 2]", "__import__('numpy').ones(3)"])
def test_a_result_of_another_kind_is_shown(quoth: Quoth, here: Path, value: str) -> None:
    result = quoth("exercise", "check", write("scaling-1", f"def scale(head_size):\n    return {value}"))
    assert result.code == 1 and result.out.startswith("scaling-1: scale(16) is 0.25, not ")


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
        ("# exercise: norm-1\n", "has no function layer_norm"),
        ("# exercise: norm-1\nimport nothing_such\n", "does not run: ModuleNotFoundError"),
        ("# exercise: norm-1\ndef layer_norm(:\n", "does not run: SyntaxError"),
        ("# exercise: norm-1\nexit(3)\n", "does not run: SystemExit: 3"),
        ("# exercise: norm-1\nraise ValueError('one\\ntwo')\n", "does not run: ValueError: one."),
    ],
)
def test_a_file_that_cannot_be_checked_is_a_sentence(quoth: Quoth, here: Path, text: str | None, said: str) -> None:
    if text is not None:
        Path("mine.py").write_text(text, encoding="utf-8")
    result = quoth("exercise", "check", "mine.py")
    assert result.code == 2 and said in result.err and result.err.count("\n") == 1
