"""What is drawn from a step's logits, by PyTorch or compiled: the same as `draw` draws of each row alone."""

from __future__ import annotations

import random
import shutil

import pytest
import torch
from generate.models import ALPHABET, model

from quoth.generate.decoder import Decoder, TorchDecoder
from quoth.generate.native.decoder import NativeDecoder
from quoth.generate.sampling import Sampling, draw
from quoth.model.gpt import GPT

pytestmark = pytest.mark.usefixtures("one_thread")

SAMPLINGS = [
    Sampling(temperature=0),
    Sampling(),
    Sampling(temperature=1.7),
    Sampling(temperature=1e-40),
    Sampling(top_k=3),
    Sampling(top_k=10**400),
    Sampling(top_p=0.6),
    Sampling(top_p=1e-9),
    Sampling(min_p=0.1),
    Sampling(min_p=1.0),
    Sampling(temperature=1.3, top_k=9, top_p=0.8, min_p=0.03),
]


@pytest.fixture(params=["PyTorch", "compiled", "compiled, 2 threads"])
def decoder(request: pytest.FixtureRequest) -> Decoder:
    gpt: GPT = model("modern")
    if request.param == "PyTorch":
        return TorchDecoder(gpt)
    if not shutil.which("g++"):
        pytest.skip("the compiled decoder needs a C++ compiler")
    return NativeDecoder(gpt, threads=2 if "2" in request.param else 1)


def rows_of(seed: int) -> torch.Tensor:
    """Logits (300, V), some rows with equal ones, with ones that cannot be, and far apart."""
    V = len(ALPHABET)
    logit_RV = torch.randn(300, V, generator=torch.Generator().manual_seed(seed)) * 3
    logit_RV[:40] = logit_RV[:40].round()
    logit_RV[40:60, ::3] = -torch.inf
    logit_RV[60:70, 1:] = -torch.inf
    logit_RV[70:90] *= 1000
    logit_RV[90:100] = 0.5
    return logit_RV


@pytest.mark.parametrize("seed", range(4))
def test_each_row_is_drawn_as_it_wants(decoder: Decoder, seed: int) -> None:
    rng, logit_RV = random.Random(seed), rows_of(seed)
    rows = rng.choices(range(len(logit_RV)), k=1000)
    samplings = rng.choices(SAMPLINGS, k=1000)
    uniforms = [rng.choice([0.0, 1 - 2**-53, *(rng.random() for _ in range(6))]) for _ in rows]
    expected = [
        draw(logit_RV[row][None], sampling, torch.tensor([u], dtype=torch.float64)).item()
        for row, sampling, u in zip(rows, samplings, uniforms, strict=True)
    ]
    assert decoder.draw(logit_RV, rows, samplings, uniforms) == expected


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_of_what_is_no_number_nothing_is_drawn(decoder: Decoder, sampling: Sampling) -> None:
    broken = torch.full((1, len(ALPHABET)), torch.nan)
    assert decoder.draw(broken, [0], [sampling], [0.5]) == [len(ALPHABET)]
