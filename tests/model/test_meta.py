"""Models without numbers: of the right shapes, however large, and without torch's compiler."""

from __future__ import annotations

import subprocess
import sys

import pytest

from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.model.meta import on_meta


@pytest.mark.parametrize("kind", ["modern", "gpt2", "lecture"])
def test_a_model_on_meta_has_the_names_and_shapes_of_a_real_one(kind: str) -> None:
    c = family(kind, vocabulary=11, context=16, layers=2, width=24, heads=2)
    with on_meta():
        model = GPT(c)
    assert all(t.is_meta for t in (*model.parameters(), *model.buffers()))
    assert {name: t.shape for name, t in model.named_parameters()} == {
        name: t.shape for name, t in GPT(c).named_parameters()
    }
    assert {name: t.shape for name, t in model.named_buffers()} == {name: t.shape for name, t in GPT(c).named_buffers()}


def test_a_model_larger_than_memory_has_a_shape() -> None:
    with on_meta():
        assert GPT(family("modern", vocabulary=10**6, context=10**9, width=2**16, layers=1)).parameters_count > 10**11


def test_writing_does_not_import_torchs_compiler_which_would_take_a_second() -> None:
    code = """
import sys
from quoth.generate.engine import Engine
from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.text.tokenizer import Characters

tokenizer = Characters("ab")
model = GPT(family("modern", vocabulary=2, context=8, layers=1, width=16, heads=2))
assert len("".join(Engine(model, tokenizer).stream("a", 4))) == 4
sys.exit("torch._dynamo" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
