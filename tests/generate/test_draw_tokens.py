"""What is drawn from a step's logits, by PyTorch or compiled: the same as `draw` draws of each row alone."""

from __future__ import annotations

import functools
import random
import shutil

import pytest
import torch
from generate.models import ALPHABET, model
from generate.test_engine import engine_of
from hypothesis import given, settings
from hypothesis import strategies as st

from quoth.generate.decoder import Decoder, TorchDecoder
from quoth.generate.native.decoder import NativeDecoder
from quoth.generate.request import Request
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
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_of_what_is_no_number_nothing_is_drawn(decoder: Decoder, sampling: Sampling, value: float) -> None:
    V = len(ALPHABET)
    logit_RV = torch.randn(2 * V + 2, V)
    for at in range(V):
        logit_RV[at, at] = value
        logit_RV[V + at, at], logit_RV[V + at, at - 1] = value, -torch.inf
    logit_RV[2 * V], logit_RV[2 * V + 1] = value, -torch.inf
    n = len(logit_RV)
    assert decoder.draw(logit_RV, list(range(n)), [sampling] * n, [0.5] * n) == [V] * n


ODD = [
    -torch.inf,
    -3e38,
    -1e30,
    -1.0,
    -1e-45,
    -0.0,
    0.0,
    1e-45,
    1e-38,
    1.0,
    1.0000001,
    2.0,
    1e30,
    3e38,
    torch.inf,
    torch.nan,
]
VOCABULARY = 37


@functools.cache
def both() -> tuple[Decoder, Decoder]:
    gpt = model("modern", vocabulary=VOCABULARY)
    return TorchDecoder(gpt), NativeDecoder(gpt, threads=1)


@pytest.mark.skipif(not shutil.which("g++"), reason="the compiled decoder needs a C++ compiler")
@given(
    logits=st.lists(st.sampled_from(ODD[:-2]) | st.floats(-50, 50, width=32), min_size=VOCABULARY, max_size=VOCABULARY),
    broken=st.none() | st.tuples(st.integers(0, VOCABULARY - 1), st.sampled_from(ODD[-2:])),
    temperature=st.sampled_from([0.0, 1e-300, 1e-30, 1e-3, 1.0, 1e30, 1e300]),
    top_k=st.sampled_from([0, 1, 2, 5, VOCABULARY]),
    u=st.sampled_from([0.0, 1 - 2**-53]) | st.floats(0.001, 0.999),
)
@settings(max_examples=400)
def test_both_decoders_draw_alike_of_the_oddest_logits(
    logits: list[float], broken: tuple[int, float] | None, temperature: float, top_k: int, u: float
) -> None:
    logit_RV = torch.tensor([logits])
    if broken:
        logit_RV[0, broken[0]] = broken[1]
    sampling = Sampling(temperature=temperature, top_k=top_k)
    first, second = (decoder.draw(logit_RV, [0], [sampling], [u]) for decoder in both())
    assert first == second
    row = logit_RV[0].tolist()
    if any(x != x or x == float("inf") for x in row) or max(row) == -float("inf"):
        assert first == [VOCABULARY]
    elif temperature == 0 or top_k == 1:
        assert first == [row.index(max(row))]
    else:
        assert row[first[0]] > -float("inf")
        assert not top_k or first[0] in sorted(range(VOCABULARY), key=lambda i: -row[i])[:top_k]


@pytest.mark.parametrize("compiled", [True, False])
def test_the_largest_penalties_and_biases_leave_numbers(compiled: bool) -> None:
    engine = engine_of(compiled=compiled)
    never = Sampling(logit_bias=dict.fromkeys(range(1, 9), -1e30) | {0: 1e30})
    once = Sampling(presence_penalty=1e30, frequency_penalty=1e30, temperature=0)
    (one, two) = engine.generate([Request(prompt=[1], tokens=8, sampling=s) for s in (never, once)])
    assert one.answer == [0] * 8
    assert len(set(two.answer)) == 8
