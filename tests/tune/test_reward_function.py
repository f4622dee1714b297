import os
import sys
import time

import pytest

from quoth.system.errors import InputError
from quoth.tune.reward_function import RewardFunction

PROMPTS, ANSWERS = ["Speak of love.", "Ask."], ["My love.", "Who?"]


@pytest.fixture
def rule(tmp_path, monkeypatch):
    """Write a file with a function and make a reward of it."""
    monkeypatch.chdir(tmp_path)
    made = []

    def make(source, name="reward", **limits):
        (tmp_path / "rule.py").write_text(source)
        made.append(RewardFunction((tmp_path / "rule.py").relative_to(tmp_path), name, **limits))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_function_rewards_each_answer_to_its_prompt(rule):
    reward = rule("def reward(prompt, answer):\n    print('noise')\n    return len(prompt) + len(answer) / 10")
    assert reward(PROMPTS, ANSWERS) == [14.8, 4.4]
    assert reward(["a"], ["é" * 5]) == [1.5]
    assert reward([], []) == []


def test_another_function_of_the_file_is_named(rule):
    assert rule("def length(prompt, answer): return len(answer)", "length")(PROMPTS, ANSWERS) == [8, 4]


@pytest.mark.parametrize("value", ["True", "numpy.float32(1)", "fractions.Fraction(1)"])
def test_whatever_is_a_number_is_a_reward(rule, value):
    assert rule(f"import numpy, fractions\ndef reward(p, a): return {value}")(["p"], ["a"]) == [1.0]


def test_a_file_may_import_its_neighbours_but_not_hide_pythons_own(rule, tmp_path):
    (tmp_path / "lexicon.py").write_text("WORDS = 7")
    (tmp_path / "json.py").write_text("raise SystemExit")
    assert rule("import json\nfrom lexicon import WORDS\ndef reward(p, a): return WORDS")(["p"], ["a"]) == [7]


def test_many_long_answers_are_rewarded_in_their_order(rule):
    reward = rule("def reward(prompt, answer): return len(answer)")
    answers = ["é" * n for n in range(0, 3000, 3)]
    assert reward(["prompt"] * len(answers), answers) == list(range(0, 3000, 3))


def test_after_an_answer_that_fails_the_next_ones_are_rewarded_anew(rule):
    reward = rule("def reward(prompt, answer): return int(answer)")
    with pytest.raises(InputError, match="and the answer 'two', ValueError"):
        reward(["p"] * 4, ["1", "two", "3", "4"])
    assert reward(["p"] * 2, ["5", "6"]) == [5, 6]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ValueError('no such word')", r"raised, ASKED, ValueError \(line 2\): no such word"),
        ("exit(3)", r"raised, ASKED, SystemExit \(line 2\): 3"),
        ("return float('nan')", "should return a finite number, but ASKED it returned nan"),
        ("return float('inf')", "should return a finite number, but ASKED it returned inf"),
        ("return '1'", "should return a finite number, but ASKED it returned '1'"),
        ("pass", "should return a finite number, but ASKED it returned None"),
        ("import time; time.sleep(60)", "was stopped ASKED: it took longer than 0.5 s"),
        ("\n  while True: pass", "was stopped ASKED: it took longer than 0.5 s"),
        ("import os; os._exit(3)", "was stopped ASKED: it ended its process with exit code 3"),
        ("import os; os.kill(os.getpid(), 11)", "was stopped ASKED: its process was ended by signal 11"),
    ],
)
def test_what_a_function_does_wrong_is_said_in_a_sentence(rule, body, said):
    reward = rule(f"def reward(p, a):\n  {body}", seconds=0.5)
    asked = r"for the prompt 'Speak of love\.' and the answer 'My love\.'"
    with pytest.raises(InputError, match=rf"^reward in rule\.py {said.replace('ASKED', asked)}\.$"):
        reward(PROMPTS, ANSWERS)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a process may leave its group")
def test_what_a_function_has_started_ends_with_it_even_in_a_session_of_its_own(rule):
    started = "subprocess.Popen(['sleep', '600'], start_new_session=True)"
    reward = rule(f"import subprocess\ndef reward(p, a): return {started}.pid")
    (pid,) = reward(["p"], ["a"])
    os.kill(int(pid), 0)
    reward.close()
    until = time.monotonic() + 5
    while os.path.exists(f"/proc/{int(pid)}") and time.monotonic() < until:
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{int(pid)}")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="only Linux bounds a process's memory here")
def test_a_function_cannot_take_all_memory(rule):
    reward = rule("def reward(p, a):\n    return len(bytearray(2**30))", memory=2**28)
    with pytest.raises(InputError, match=r"MemoryError \(line 2\): it took more than 268 MB of memory\.$"):
        reward(["p"], ["a"])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def other(p, a): return 1", r"rule\.py has no function reward\.$"),
        ("reward = 3", r"rule\.py has no function reward\.$"),
        ("\nimport nothing_there", r"rule\.py does not run: ModuleNotFoundError \(line 2\): No module named"),
        ("def reward(p, a) return", r"rule\.py does not run: SyntaxError \(line 1\): expected ':'\.$"),
        ("import os; os._exit(1)", r"rule\.py does not run: it ended its process with exit code 1\.$"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_at_once(rule, source, said):
    with pytest.raises(InputError, match=said):
        rule(source)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"There is no file .*absent\.py with a reward function\.$"):
        RewardFunction(tmp_path / "absent.py")


def test_its_process_ends_with_it(rule):
    reward = rule("import os\ndef reward(p, a): return os.getpid()")
    pid = int(reward(["p"], ["a"])[0])
    reward.close()
    time.sleep(0.05)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
