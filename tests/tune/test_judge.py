import pytest

from quoth.system.errors import InputError
from quoth.tune.judge import RULES, rewards_from


def one(text, answer, ended=True, prompt="Speak of love."):
    return rewards_from(text)([prompt], [answer], [ended])[0]


def test_rules_reward_what_they_say():
    assert (one("ends", "", True), one("ends", "", False)) == (1, 0)
    assert (one("question", "Who? "), one("question", "Me.")) == (1, 0)
    assert [one("length:10", "x" * n) for n in (10, 5, 15, 20, 99, 0)] == [1, 0.5, 0.5, 0, 0, 0]
    assert [one("short:10", "x" * n) for n in (0, 10, 15, 20, 99)] == [1, 1, 0.5, 0, 0]
    assert [one("contains:love", a) for a in ("My LOVE!", "lovely", "love's")] == [1, 0, 0]
    assert [one("varied", a) for a in ("my own", "my my", "My heart, my", "", "...")] == [1, 0.5, 2 / 3, 0, 0]


def test_rewards_are_weighed_and_summed(tmp_path):
    (tmp_path / "rule.py").write_text(
        "def reward(prompt, answer): return len(answer)\ndef first(prompt, answer): return ord(prompt[0])"
    )
    file = tmp_path / "rule.py"
    rewards = rewards_from(f"0.5*{file}, -2 * {file}:first,ends")
    asked = (["a", "b"], ["xx", "xxxx"], [True, False])
    assert rewards(*asked) == [1 - 194 + 1, 2 - 196]
    assert rewards.each(*asked) == {f"{file}": [2, 4], f"{file}:first": [97, 98], "ends": [1, 0]}
    assert rewards([], [], []) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("end", r"There is no rule 'end' \(did you mean 'ends'\?\); a function of yours is named by its file"),
        ("", "There is no rule ''"),
        ("ends,,varied", "There is no rule ''"),
        ("x*ends", r"A reward's weight is a number, as in 0\.5\*ends, not 'x' in 'x\*ends'\.$"),
        ("nan*ends", "A reward's weight is a number"),
        ("ends,2*ends", r"The reward ends is named twice; give it one weight\.$"),
        ("ends:3", r"The rule ends is written ends, not ends:3\.$"),
        ("length", r"The rule length is written length:N, not length\.$"),
        ("length:-3", r"The rule length wants a number of characters of at least 1, not '-3'\.$"),
        ("short:0", "The rule short wants a number of characters of at least 1"),
        ("contains:my love", r"The rule contains wants one word, as in contains:love, not 'my love'\.$"),
        ("absent.py:f", r"There is no file absent\.py with a reward function\.$"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(text, said):
    with pytest.raises(InputError, match=said):
        rewards_from(text)


def test_every_rule_says_what_it_rewards():
    assert all(told for told, _ in RULES.values())
