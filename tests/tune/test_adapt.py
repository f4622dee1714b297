"""A model with more tokens."""

from __future__ import annotations

import pytest
import torch

from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.tune.adapt import resized


@pytest.mark.parametrize("kind", ["modern", "gpt2", "lecture"])
def test_old_tokens_keep_their_logits_and_new_ones_are_average(kind: str) -> None:
    torch.manual_seed(0)
    old = GPT(family(kind, vocabulary=11, context=8, layers=1, width=32, heads=2, dropout=0.1, initialization="torch"))
    new = resized(old.eval(), 14).eval()
    ids = torch.randint(11, (2, 8))
    before_BTV, after_BTV = old(ids), new(ids)
    torch.testing.assert_close(after_BTV[..., :11], before_BTV)
    torch.testing.assert_close(after_BTV[..., 11:], before_BTV.mean(-1, keepdim=True).expand(2, 8, 3))
    assert new.config.vocabulary == 14 and new.config.dropout == 0
    assert torch.equal(new.embed.weight[12], old.embed.weight.mean(0))
    assert (new.head.weight is new.embed.weight) == old.config.tied


def test_rows_that_are_there_already_are_used() -> None:
    old = GPT(family("modern", vocabulary=11, context=8, layers=1, width=32, heads=2))
    assert torch.equal(resized(old, 11).embed.weight, old.embed.weight)
