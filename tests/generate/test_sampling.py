import pytest
import torch

from quoth.generate.sampling import Sampling, Uniforms, adjusted, distribution, draw
from quoth.system.errors import InputError


def slow_distribution(logits: list[float], s: Sampling) -> list[float]:
    """One row, by the definitions: temper, sort, keep, rescale."""
    if s.temperature == 0:
        best = max(range(len(logits)), key=lambda i: logits[i])
        return [float(i == best) for i in range(len(logits))]
    weights = [2.718281828459045 ** (x / s.temperature) for x in logits]
    p = [w / sum(weights) for w in weights]
    kept, reached = [], 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: -p[i])):
        if reached < s.top_p and (not s.top_k or rank < s.top_k) and p[i] >= s.min_p * max(p):
            kept.append(i)
        reached += p[i]
    total = sum(p[i] for i in kept)
    return [p[i] / total if i in kept else 0.0 for i in range(len(p))]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1),
        Sampling(temperature=0),
        Sampling(temperature=0.5, top_k=3),
        Sampling(temperature=1.5, top_p=0.7),
        Sampling(temperature=1, min_p=0.2),
        Sampling(temperature=0.9, top_k=5, top_p=0.9, min_p=0.05),
    ],
)
def test_distribution_equals_the_definition(sampling: Sampling) -> None:
    logit_BV = torch.randn(20, 9, generator=torch.Generator().manual_seed(3)) * 2
    expected = torch.tensor([slow_distribution(row, sampling) for row in logit_BV.tolist()])
    torch.testing.assert_close(distribution(logit_BV, sampling).float(), expected, atol=1e-6, rtol=1e-5)


def test_the_likeliest_is_always_kept() -> None:
    p_BV = distribution(torch.tensor([[0.0, 5.0, 1.0]]), Sampling(top_p=1e-9))
    assert p_BV.tolist() == [[0.0, 1.0, 0.0]]


def test_draws_follow_the_distribution() -> None:
    logit_BV = torch.tensor([[0.0, 1.0, 2.0, -1.0]]).expand(20_000, -1)
    tokens = draw(logit_BV, Sampling(temperature=1), torch.rand(20_000, dtype=torch.float64))
    share = torch.bincount(tokens, minlength=4) / len(tokens)
    torch.testing.assert_close(share, logit_BV[0].softmax(0), atol=0.02, rtol=0)


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0},
        {"top_p": 1.1},
        {"min_p": 2},
        {"repetition_penalty": 0},
        {"presence_penalty": float("inf")},
        {"frequency_penalty": float("nan")},
        {"logit_bias": {1: float("nan")}},
        {"logit_bias": {1: 1e300}},
        {"presence_penalty": -1e300},
    ],
)
def test_bad_settings_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        Sampling(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("u", [0.0, 0.3, 1 - 2**-53])
def test_what_cannot_be_is_not_drawn_at_either_end(u: float) -> None:
    logit_BV = torch.tensor([[-torch.inf, 0.0, 1.0, -torch.inf]]).repeat(1, 1)
    assert draw(logit_BV, Sampling(temperature=1), torch.tensor([u], dtype=torch.float64)).item() in (1, 2)
    limited = Sampling(temperature=1, top_k=1)
    assert draw(logit_BV, limited, torch.tensor([u], dtype=torch.float64)).item() == 2


@pytest.mark.parametrize("temperature", [1e-40, 1e-300, 1e30])
def test_no_temperature_is_too_extreme(temperature: float) -> None:
    p_BV = distribution(torch.tensor([[300.0, -300.0, 299.0]]), Sampling(temperature=temperature, top_k=10**30))
    assert p_BV.sum().item() == pytest.approx(1)
    assert p_BV.tolist() == ([[1.0, 0.0, 0.0]] if temperature < 1 else [[pytest.approx(1 / 3)] * 3])


def test_penalties_and_biases_are_their_definitions() -> None:
    logit_V = torch.tensor([2.0, -2.0, 1.0, 0.5])
    given = Sampling(repetition_penalty=2, presence_penalty=0.5, frequency_penalty=0.25, logit_bias={3: 9.0})
    got = adjusted(logit_V, given, prompt=[0], answer=[1, 1, 2])
    assert got.tolist() == [1.0, -4.0 - 0.5 - 0.5, 0.5 - 0.5 - 0.25, 9.5]
    assert logit_V.tolist() == [2.0, -2.0, 1.0, 0.5]


def test_numbers_are_those_of_seed_and_choice() -> None:
    one, again, other = Uniforms(1), Uniforms(1), Uniforms(1, 1)
    assert one[5] == again[5] != other[5]
    assert [again[n] for n in range(6)] == [one[n] for n in range(6)]
    assert all(0 <= one[n] < 1 for n in range(100))
