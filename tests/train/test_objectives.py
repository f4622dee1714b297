import pytest
import torch
from torch import nn

from quoth.text.batches import Batch
from quoth.train.objectives import next_token


class Fixed(nn.Module):
    """Says the same logits whatever it reads."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, tokens):
        return self.logits


def make(dtype=torch.float64):
    logits = torch.randn(2, 5, 7, dtype=torch.float64).to(dtype)
    return Fixed(logits), torch.randint(7, (2, 5))


def slow(logits, target, weight):
    """−Σ weight log softmax, a target at a time."""
    total = 0.0
    for b in range(2):
        for t in range(5):
            share = logits[b, t].exp() / logits[b, t].exp().sum()
            total -= weight[b, t] * share[target[b, t]].log()
    return total


def test_the_loss_is_a_sum_over_targets():
    model, y = make()
    loss = next_token(model, Batch(y, y))
    torch.testing.assert_close(loss, slow(model.logits, y, torch.ones(2, 5)), rtol=0, atol=1e-12)


def test_each_target_counts_as_its_weight_says():
    model, y = make()
    weight = torch.rand(2, 5, dtype=torch.float64)
    loss = next_token(model, Batch(y, y, weight))
    torch.testing.assert_close(loss, slow(model.logits, y, weight), rtol=0, atol=1e-12)
    weight[0] = 0
    changed = y.clone()
    changed[0] = (y[0] + 1) % 7
    assert torch.equal(next_token(model, Batch(y, y, weight)), next_token(model, Batch(y, changed, weight)))
    assert torch.equal(next_token(model, Batch(y, y, torch.ones(2, 5))), next_token(model, Batch(y, y)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_logits_are_summed_wide(dtype):
    model, y = make(dtype)
    loss = next_token(model, Batch(y, y))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), slow(model.logits.double(), y, torch.ones(2, 5)), rtol=1e-6, atol=0)
