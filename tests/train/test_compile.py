import shutil

import pytest
import torch

from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.train.compile import compiled


@pytest.mark.slow
@pytest.mark.parametrize("whole", [0, 8])
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_it_computes_the_same_with_the_same_parameters(whole: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quoth.train.compile.WHOLE_LAYERS", whole)
    torch.manual_seed(0)
    model = GPT(family("modern", vocabulary=20, width=32, layers=2, heads=2, context=8, initialization="normal"))
    view = compiled(model)
    ids = torch.randint(20, (2, 8))
    model(ids).square().sum().backward()
    expected = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    view(ids).square().sum().backward()
    for p, g in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, g, atol=1e-5, rtol=1e-4)
    assert type(model.blocks[0]).__name__ == "Block"
