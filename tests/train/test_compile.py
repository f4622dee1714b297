import shutil
from pathlib import Path

import pytest
import torch
from model.adapters import adapt
from torch._dynamo.utils import counters

from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.model.lora import add_lora
from quoth.train.compile import compiled, last_compile, remember_compile, tuning


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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parametrized", "wrapped"])
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_an_adapter_is_heard_when_compiled(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quoth.train.compile.WHOLE_LAYERS", 0)
    model = GPT(family("modern", vocabulary=20, width=32, layers=2, heads=2, context=8, initialization="normal"))
    adapt(model, kind)
    ids = torch.randint(20, (2, 8))
    expected = torch.autograd.grad(model(ids).square().sum(), list(model.parameters()))
    got = torch.autograd.grad(compiled(model)(ids).square().sum(), list(model.parameters()))
    for (name, _), one, other in zip(model.named_parameters(), got, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_adapted_blocks_share_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quoth.train.compile.WHOLE_LAYERS", 0)
    model = GPT(family("modern", vocabulary=20, width=32, layers=4, heads=2, context=8, initialization="normal"))
    add_lora(model, 4)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for p in trained.values():
        torch.nn.init.normal_(p, std=0.2)
    ids = torch.randint(20, (2, 8))
    expected = torch.autograd.grad(model(ids).square().sum(), list(trained.values()))
    counters.clear()
    got = torch.autograd.grad(compiled(model)(ids).square().sum(), list(trained.values()))
    for name, one, other in zip(trained, got, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3, msg=name)
    # Nothing before the first block is trained, so going backward ends in it.
    assert counters["stats"]["unique_graphs"] == 2


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_gradients_in_bfloat16_are_those_without_compiling() -> None:
    """In a shape whose kernels a compiler that does not know its processor has got wrong."""
    torch.manual_seed(0)
    model = GPT(family("modern", vocabulary=65, width=128, layers=1, context=128, initialization="normal"))
    ids, gradients = torch.randint(65, (32, 128)), []
    for view in (model, compiled(model)):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logit_BTV = view(ids)
        torch.nn.functional.cross_entropy(logit_BTV[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten()).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    for name, expected in gradients[0].items():
        assert (gradients[1][name] - expected).norm() <= 0.05 * expected.norm(), name


@pytest.mark.parametrize(("tuned", "options"), [("generic", {"cpp.march": "native -mtune=haswell"}), ("znver4", {})])
def test_a_processor_that_the_compiler_does_not_know(
    tuned: str, options: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "g++"
    compiler.write_text(f"#!/bin/sh\necho '  -march=   \tcooperlake\n  -mtune=   \t{tuned}'\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    tuning.cache_clear()
    assert tuning() == {**options, "cpp.cxx": (None, str(compiler))}
    tuning.cache_clear()


def test_how_long_compiling_took_is_remembered_unless_it_was_found_in_a_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUOTH_CACHE", str(tmp_path / "cache"))
    assert last_compile() == {}
    remember_compile(31.25, 4)
    remember_compile(2.0, 4)
    assert last_compile() == {"seconds": 31.2, "layers": 4.0}
    (tmp_path / "cache/compile.json").write_text("[]")
    assert last_compile() == {}
