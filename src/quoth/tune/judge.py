"""Rewards by name: rules that are built in, and functions of a user's file, each with a weight."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quoth.system.errors import InputError, suggestion
from quoth.tune.reward_function import RewardFunction

FILE = re.compile(r"(.+\.py)(?::(\w+))?")
# From prompts, answers, and whether each answer has an end token, to one number for each answer.
Judge = Callable[[Sequence[str], Sequence[str], Sequence[bool]], list[float]]
# From a prompt, an answer, and whether that has an end token, to a number.
Rule = Callable[[str, str, bool], float]


def words(text: str) -> list[str]:
    """A text's words in lower case.

    >>> words("My heart's, my own!")
    ['my', "heart's", 'my', 'own']
    """
    return re.findall(r"\w+(?:'\w+)*", text.lower())


def _length(argument: str) -> Rule:
    wanted = _number("length", argument)
    return lambda prompt, answer, ended: max(0.0, 1 - abs(len(answer) - wanted) / wanted)


def _short(argument: str) -> Rule:
    most = _number("short", argument)
    return lambda prompt, answer, ended: min(1.0, max(0.0, 2 - len(answer) / most))


def _contains(argument: str) -> Rule:
    wanted = words(argument)
    if len(wanted) != 1:
        raise InputError(f"The rule contains wants one word, as in contains:love, not {argument!r}.")
    return lambda prompt, answer, ended: float(wanted[0] in words(answer))


def _varied(prompt: str, answer: str, ended: bool) -> float:
    return len(set(words(answer))) / len(words(answer)) if words(answer) else 0.0


# What a rule rewards, for people, and the rule, made of what stands after the colon.
RULES: dict[str, tuple[str, Callable[[str], Rule]]] = {
    "ends": ("1 if the answer has an end token", lambda _: lambda prompt, answer, ended: float(ended)),
    "question": ("1 if it ends with ?", lambda _: lambda prompt, answer, ended: float(answer.rstrip().endswith("?"))),
    "length:N": ("1 for N characters, less the further it is from that", _length),
    "short:N": ("1 up to N characters, falling to 0 at twice as many", _short),
    "contains:WORD": ("1 if it has the word, in any case of letters", _contains),
    "varied": ("the share of its words that are different", lambda _: _varied),
}


@dataclass(frozen=True)
class Rewards:
    """Several judges with weights.

    Attributes:
        parts: the weight and judge of each, by the name that it was asked for under.
    """

    parts: dict[str, tuple[float, Judge]]

    def __call__(self, prompts: Sequence[str], answers: Sequence[str], ended: Sequence[bool]) -> list[float]:
        """The weighted sum for each answer.

        Raises:
            InputError: a user's function cannot say; the message names the file, function, prompt and answer.
        """
        found = self.each(prompts, answers, ended).values()
        weights = [weight for weight, _ in self.parts.values()]
        return [sum(w * one for w, one in zip(weights, row, strict=True)) for row in zip(*found, strict=True)]

    def each(self, prompts: Sequence[str], answers: Sequence[str], ended: Sequence[bool]) -> dict[str, list[float]]:
        """What each part says of each answer, before its weight."""
        return {name: judge(prompts, answers, ended) for name, (_, judge) in self.parts.items()}


def rewards_from(text: str) -> Rewards:
    """The rewards that a text names, with commas between: rules and files, each with its weight if that is not 1.

    A file is a path that ends in .py, and after a colon the function, if that is not `reward`.

    >>> rewards_from("0.5*ends, contains:love")(["Speak."], ["My love"], [True])
    [1.5]

    Raises:
        InputError: there is no such rule, file or function, or a weight is no number.
    """
    parts: dict[str, tuple[float, Judge]] = {}
    for item in (part.strip() for part in text.split(",")):
        before, star, name = item.partition("*")
        weight = _weight(before, item) if star else 1.0
        name = name.strip() if star else item
        if name in parts:
            raise InputError(f"The reward {name} is named twice; give it one weight.")
        parts[name] = weight, _judge(name)
    return Rewards(parts)


def _judge(name: str) -> Judge:
    if file := FILE.fullmatch(name):
        function = RewardFunction(Path(file[1]).expanduser(), file[2] or "reward")
        return lambda prompts, answers, ended: function(prompts, answers)
    before, _, after = name.partition(":")
    known = {rule.partition(":")[0]: rule for rule in RULES}
    if before not in known:
        raise InputError(
            f"There is no rule {before!r}{suggestion(before, known)}; a function of yours is named by its file, as in "
            "rule.py or rule.py:name."
        )
    if bool(after) != (":" in known[before]):
        raise InputError(f"The rule {before} is written {known[before]}, not {name}.")
    rule = RULES[known[before]][1](after)
    return lambda prompts, answers, ended: [rule(*one) for one in zip(prompts, answers, ended, strict=True)]


def _weight(text: str, item: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = float("nan")
    if not abs(weight) < float("inf"):
        raise InputError(f"A reward's weight is a number, as in 0.5*ends, not {text!r} in {item!r}.")
    return weight


def _number(rule: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"The rule {rule} wants a number of characters of at least 1, not {text!r}.")
    return int(text)
