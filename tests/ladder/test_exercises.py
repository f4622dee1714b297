"""The right solution passes, every mistake is named, and no two look alike."""

import inspect
from collections.abc import Callable

import pytest

from quoth.ladder.exercises import exercises, named
from quoth.ladder.exercises.exercise import Exercise
from quoth.ladder.topics import TOPICS
from quoth.system.errors import InputError

ALL = exercises()
MISTAKES = [(name, mistake) for name, known in ALL.items() for mistake in known.wrong]


@pytest.mark.parametrize("name", ALL)
def test_the_right_solution_passes(name: str) -> None:
    assert ALL[name].judge(ALL[name].right) is None
    assert ALL[name].task.endswith(".")


@pytest.mark.parametrize(("name", "mistake"), MISTAKES, ids=[f"{n} {m.__name__}" for n, m in MISTAKES])
def test_a_mistake_is_named(name: str, mistake: Callable) -> None:
    assert ALL[name].judge(mistake) == inspect.getdoc(mistake)
    assert list(inspect.signature(mistake).parameters) == list(inspect.signature(ALL[name].right).parameters)


def test_every_topic_has_two_or_three() -> None:
    for topic in TOPICS:
        assert 2 <= sum(name.rpartition("-")[0] == topic for name in ALL) <= 3


def test_another_mistake_is_shown_by_an_example() -> None:
    said = named("bigram-1").judge(lambda vocabulary: 0.0)
    assert said == "uniform_loss(65) is 4.174387269895637, not 0.0."


def test_an_error_is_told() -> None:
    said = named("batches-1").judge(lambda chunk: chunk.nothing)
    assert said == "examples([18, 47, 56, 57, 58]) raised AttributeError: 'list' object has no attribute 'nothing'"


def test_arguments_that_are_changed_do_not_fool_the_judge() -> None:
    known: Exercise = named("tokens-2")

    def greedy(tokens: list[int], share: float) -> tuple[list[int], list[int]]:
        cut = int(share * len(tokens))
        validation = tokens[cut:]
        del tokens[cut:]
        return tokens, validation

    assert known.judge(greedy) is None


def test_an_unknown_exercise_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'attention-2'"):
        named("atention-2")
