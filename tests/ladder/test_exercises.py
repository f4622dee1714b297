"""The right solution passes, every mistake is named, two at once too, and no two look alike."""

import inspect
import re
from collections import UserList
from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from quoth.ladder.checker.check import judged
from quoth.ladder.checker.check_child import attempt
from quoth.ladder.checker.compare import difference, same
from quoth.ladder.checker.solution import solution
from quoth.ladder.checker.values import Other, decode, encode
from quoth.ladder.exercises import exercises, named
from quoth.ladder.topics import TOPICS
from quoth.system.child import in_words
from quoth.system.errors import InputError

ALL = exercises()
MISTAKES = [(name, mistake) for name, known in ALL.items() for mistake in known.wrong]


def judge(name: str, function: Callable) -> str | None:
    """What `quoth exercise check` says, without a process."""
    outcome = attempt(ALL[name], function, ALL[name].cases())
    return in_words(outcome["failed"], "") if "failed" in outcome else judged(ALL[name], outcome)


def places(function: Callable) -> list[str]:
    """The arguments that a caller gives by their place."""
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.KEYWORD_ONLY]


@pytest.mark.parametrize("name", ALL)
def test_the_right_solution_passes(name: str) -> None:
    assert judge(name, ALL[name].right) is None
    assert ALL[name].task.endswith(".")


@pytest.mark.parametrize(("name", "mistake"), MISTAKES, ids=[f"{n} {m.__name__}" for n, m in MISTAKES])
def test_a_mistake_is_named(name: str, mistake: Callable) -> None:
    assert judge(name, mistake) == inspect.getdoc(mistake)
    assert places(mistake) == places(ALL[name].right)


def head_unscaled_masked_late(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.T).softmax(-1).tril() @ v


def norm_of_variance_unbiased(x: Tensor, eps: float) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + eps)


def entropy_in_bits_not_weighted(scores: Tensor) -> Tensor:
    return -scores.softmax(-1).log2().mean(-1)


def pairs_transposed_in_a_ring(tokens: Tensor, vocabulary: int) -> Tensor:
    table = torch.zeros(vocabulary, vocabulary)
    for i in range(len(tokens)):
        table[tokens[(i + 1) % len(tokens)], tokens[i]] += 1
    return table


def window_one_more_both_ways(T: int, window: int) -> Tensor:
    t = torch.arange(T)
    return (t[:, None] - t).abs() <= window


def batch_time_first_same_twice(tokens: Tensor, starts: list[int], context: int) -> tuple[Tensor, Tensor]:
    x = torch.stack([tokens[s : s + context] for s in starts], dim=1)
    return x, x


def gpt2_untied_without_positions(V: int, T: int, L: int, C: int) -> int:
    return 2 * V * C + L * (12 * C * C + 13 * C) + 2 * C


def ids_from_one_as_first_seen(text: str, alphabet: str) -> list[int]:
    return [1 + "".join(dict.fromkeys(alphabet)).index(c) for c in text]


# Each written as a learner would, not from the mistakes that are known.
TWO_AT_ONCE = [
    ("attention-2", head_unscaled_masked_late, ("not divided by √K", "hidden after the softmax")),
    ("norm-1", norm_of_variance_unbiased, ("divided by C − 1", "divided by the variance")),
    ("scaling-2", entropy_in_bits_not_weighted, ("in bits", "should be weighed by p")),
    ("bigram-3", pairs_transposed_in_a_ring, ("Rows and columns are exchanged", "followed by the first")),
    ("masks-2", window_one_more_both_ways, ("One token too many", "should be causal")),
    ("batches-2", batch_time_first_same_twice, ("y is x", "axes are exchanged")),
    ("nanogpt-1", gpt2_untied_without_positions, ("counted beside the embedding", "vectors of places are missing")),
    ("tokens-1", ids_from_one_as_first_seen, ("Ids begin at 1", "order in which characters first appear")),
]


@pytest.mark.parametrize(("name", "function", "both"), TWO_AT_ONCE, ids=[name for name, *_ in TWO_AT_ONCE])
def test_two_mistakes_at_once_are_named(name: str, function: Callable, both: tuple[str, str]) -> None:
    said = judge(name, function)
    assert said and said.startswith("Two mistakes are made at once. ") and all(part in said for part in both)


def test_half_of_the_exercises_know_two_mistakes_at_once() -> None:
    """Of a pair that amounts to one mistake the one is named, the simpler explanation."""
    found = {
        name
        for name, known in ALL.items()
        for both, _ in known.pairs()
        if str(judge(name, both)).startswith("Two mistakes are made at once. ")
    }
    assert len(found) >= len(ALL) / 2


def test_every_topic_has_two_or_three() -> None:
    for topic in TOPICS:
        assert 2 <= sum(name.rpartition("-")[0] == topic for name in ALL) <= 3


def test_another_mistake_is_shown_by_an_example() -> None:
    assert judge("bigram-1", lambda vocabulary: 0.0) == "uniform_loss(65) should be 4.17439, not 0."


def test_the_first_number_that_differs_is_shown_with_its_place() -> None:
    def nearly(x: Tensor, eps: float) -> Tensor:
        y = torch.nn.functional.layer_norm(x, x.shape[-1:], eps=eps)
        y[1, 2, 3] = 7
        return y

    right = ALL["norm-1"].right(*ALL["norm-1"].cases()[0])[1, 2, 3]
    expected = f"layer_norm(a tensor (2, 4, 6), 1e-05)[1, 2, 3] should be {right:.6g}, not 7 (1 of 48 numbers differ)."
    assert judge("norm-1", nearly) == expected


@pytest.mark.parametrize(
    ("wanted", "got", "said"),
    [
        (torch.ones(2, 3), torch.ones(3, 2), " should have the shape (2, 3), not (3, 2)"),
        (torch.ones(2).bool(), torch.ones(2), " should be of torch.bool, not of torch.float32"),
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5]), "[1] should be 2, not 2.5 (1 of 2 numbers differ)"),
        (torch.ones(2), torch.tensor([1.0, torch.nan]), "[1] should be 1, not nan (1 of 2 numbers differ)"),
        (torch.tensor([True]), torch.tensor([False]), "[0] should be True, not False"),
        (torch.tensor(0.5), torch.tensor(0.25), " should be 0.5, not 0.25"),
        (0.25, torch.tensor(0.5), " should be 0.25, not 0.5"),
        ([1, 2], [1], " should have 2 items, not 1: [1, 2], not [1]"),
        ([(1, [2, 3])], [(1, [2, 4])], "[0][1][1] should be 3, not 4"),
        ((torch.zeros(2), 1), (torch.ones(2), 1), "[0][0] should be 0, not 1 (2 of 2 numbers differ)"),
        (0.25, "0.25", " should be 0.25, not '0.25'"),
        (0.25, None, " should be 0.25, not None"),
        (torch.ones(2, 2), Other("a tensor (9, 9)"), " should be a tensor (2, 2), not a tensor (9, 9)"),
        (1000.0, 1000.2, " should be 1000, not 1000.2"),
    ],
)  # fmt: skip
def test_what_differs_is_told_apart(wanted: object, got: object, said: str) -> None:
    assert not same(got, wanted) and difference(wanted, got) == said


FLAT = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(width=32) | st.text("ab", max_size=3)
TENSORS = st.lists(st.sampled_from([0.0, 1.0, float("nan"), float("inf")]), max_size=4).map(torch.tensor)
OTHERS = st.just(UserList([1])) | st.just(torch.ones(2).to_sparse()) | st.sets(st.integers(0, 3), max_size=2)
VALUES = st.recursive(
    FLAT | TENSORS | TENSORS.map(lambda x: x.bool()) | OTHERS,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner),
)


@given(VALUES, VALUES)
@example([1], UserList([1]))
@example(torch.ones(2), torch.ones(2).to_sparse())
@example([float("nan")], [float("inf")])
@example(torch.ones(2), torch.ones(2).bool())
def test_two_things_that_look_alike_are_never_told_apart_by_their_looks(wanted: object, got: object) -> None:
    """Results are either the same, or the message shows two texts that differ."""
    wanted, got = decode(encode(wanted)), decode(encode(got))
    assert same(wanted, wanted) and same(got, got)
    if not same(got, wanted):
        said = re.sub(r" \(\d+ of \d+ numbers differ\)$", "", difference(wanted, got)).partition(" should ")[2]
        first, _, second = said.rpartition(", not ")
        assert second and first.removeprefix("be ") != second


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 3, 2.5, float("nan"), "text", [1, (2.0, "a")], []),
        *(torch.arange(6).view(2, 3) / 7, torch.tensor(2.5), torch.ones(2, 0), torch.arange(3), torch.ones(2).bool()),
        *(torch.ones(2, dtype=torch.bfloat16), [torch.ones(1), (torch.zeros(1), None)]),
    ],
    ids=str,
)
def test_a_result_comes_back_as_it_went(value: object) -> None:
    there = decode(encode(value))
    assert type(there) is type(value) and repr(there) == repr(value)


@pytest.mark.parametrize("number", [__import__("numpy").int64(3), __import__("fractions").Fraction(3)])
def test_numbers_of_other_kinds_are_numbers(number: object) -> None:
    assert decode(encode(number)) == 3


def test_what_no_result_is_comes_back_in_words() -> None:
    loop: list[object] = []
    loop.append(loop)
    odd = [
        loop,
        {},
        1 << 20_000,
        "x" * 20_000,
        torch.zeros(200, 200),
        torch.ones(2).to_sparse(),
        1j,
        len,
        torch.nn.ReLU,
    ]
    for value in odd:
        assert len(str(decode(encode(value)))) < 200


@pytest.mark.parametrize("value", ["torch.ones(3)", "'text'", "None", "[1, 2]", "__import__('numpy').ones(3)", "print"])
def test_a_result_of_another_kind_is_shown(value: str) -> None:
    said = judge("scaling-1", lambda head_size: eval(value))
    assert said and said.startswith("scale(16) should be 0.25, not ")


def test_an_error_is_told() -> None:
    said = judge("batches-1", lambda chunk: chunk.nothing)
    assert said == "AttributeError: 'list' object has no attribute 'nothing'"


def test_an_argument_that_is_a_function_is_called_one() -> None:
    assert ALL["residual-1"].call(0) == "block(a tensor (4, 3), a function, a function, a function)"


def test_arguments_that_are_changed_do_not_fool_the_judge() -> None:
    def greedy(tokens: list[int], share: float) -> tuple[list[int], list[int]]:
        cut = int(share * len(tokens))
        validation = tokens[cut:]
        del tokens[cut:]
        return tokens, validation

    said = judge("tokens-2", greedy)
    assert said and said.startswith("The results are right, but split changes its argument tokens")


def test_a_global_seed_that_is_set_is_told() -> None:
    def seeding(head_size: int) -> float:
        torch.manual_seed(1337)
        return head_size**-0.5

    assert judge("scaling-1", seeding) == (
        "The results are right, but scale sets torch's global seed, which is for its caller to set."
    )


def test_a_module_that_draws_its_first_weights_is_no_mistake() -> None:
    def with_layers(x: Tensor, up: Tensor, down: Tensor) -> Tensor:
        first, second = (torch.nn.Linear(w.shape[1], w.shape[0], bias=False) for w in (up, down))
        first.weight.data, second.weight.data = up, down
        return second(first(x).relu())

    assert judge("think-1", with_layers) is None


def test_a_hint_tells_one_mistake_more_each_try() -> None:
    known = ALL["attention-2"]
    hints = [known.hint(tries) for tries in range(8)]
    assert hints[0].startswith(
        "head(a tensor (5, 8), a tensor (5, 8), a tensor (5, 8)) should return a tensor (5, 8) of "
    )
    assert [hint.count("\n- ") for hint in hints] == [1, 2, 3, 4, 5, 6, 6, 6]


@pytest.mark.parametrize("name", ALL)
def test_a_hint_does_not_give_the_solution(name: str) -> None:
    body = inspect.getsource(ALL[name].right).split('"""')[-1].split()
    assert " ".join(body) not in " ".join(ALL[name].hint(9).split())


@pytest.mark.parametrize("name", ALL)
def test_a_solution_runs_by_itself_and_is_right(name: str) -> None:
    text = solution(ALL[name])
    names: dict[str, Callable] = {}
    exec(text, names)
    assert judge(name, names[ALL[name].name]) is None and "quoth" not in text


def test_an_unknown_exercise_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'attention-2'"):
        named("atention-2")
    with pytest.raises(InputError, match="There is no exercise 'norm-9'"):
        named("norm-9")
