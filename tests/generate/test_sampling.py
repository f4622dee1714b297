import pytest
import torch

from quoth.generate.sampling import Sampling, distribution, draw
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
    torch.testing.assert_close(distribution(logit_BV, sampling), expected, atol=1e-6, rtol=1e-5)


def test_the_likeliest_is_always_kept() -> None:
    p_BV = distribution(torch.tensor([[0.0, 5.0, 1.0]]), Sampling(top_p=1e-9))
    assert p_BV.tolist() == [[0.0, 1.0, 0.0]]


def test_draws_follow_the_distribution() -> None:
    logit_BV = torch.tensor([[0.0, 1.0, 2.0, -1.0]]).expand(20_000, -1)
    tokens = draw(logit_BV, Sampling(temperature=1), torch.Generator().manual_seed(0))
    share = torch.bincount(tokens, minlength=4) / len(tokens)
    torch.testing.assert_close(share, logit_BV[0].softmax(0), atol=0.02, rtol=0)


@pytest.mark.parametrize("bad", [{"temperature": -1}, {"top_k": -1}, {"top_p": 0}, {"top_p": 1.1}, {"min_p": 2}])
def test_bad_settings_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        Sampling(**bad)  # type: ignore[arg-type]
