"""What is predicted, against what was published, counted another way, and measured."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from quoth.model.config import family
from quoth.model.gpt import GPT
from quoth.plan.costs import attention_flops_per_token, flops_per_token, step_seconds
from quoth.plan.devices import DEVICES
from quoth.plan.footprint import memory, parameters
from quoth.plan.predict import predict
from quoth.plan.published import PUBLISHED

EXACT = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "llama2-7b": 6_738_415_616,
    "llama3-8b": 8_030_261_248,
    "llama3-405b": 405_853_388_800,
}


@pytest.mark.parametrize("name", EXACT)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert parameters(PUBLISHED[name].config) == EXACT[name]


def test_gpt3_is_what_its_paper_says() -> None:
    assert parameters(PUBLISHED["gpt3"].config) == pytest.approx(175e9, rel=0.005)


@pytest.mark.parametrize("name", [name for name, one in PUBLISHED.items() if one.flops])
def test_flops_are_the_published_ones(name: str) -> None:
    one = PUBLISHED[name]
    assert flops_per_token(one.config) * one.tokens == pytest.approx(one.flops, rel=0.01)


def test_flops_are_those_that_torch_counts() -> None:
    c = family("modern", vocabulary=65, width=64, layers=3, context=32)
    model = GPT(c)
    with FlopCounterMode(display=False) as counter:
        model(torch.randint(65, (2, 32))).sum().backward()
    # An embedding is looked up, and norms are not products.
    looked_up = 6 * (c.vocabulary * c.width + sum(p.numel() for p in model.parameters() if p.dim() < 2))
    expected = 64 * (flops_per_token(c) - looked_up + attention_flops_per_token(c))
    # The first layer's input needs no gradient of its own.
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.02)


def test_more_devices_take_less_time_and_shards_less_memory() -> None:
    c, h100 = PUBLISHED["llama3-8b"].config, DEVICES["h100"]
    assert step_seconds(c, 1e6, h100, 1, recompute=True) > 1.3 * step_seconds(c, 1e6, h100, 1)
    alone, many = predict(c, h100, 1), predict(c, h100, 8, recompute=True)
    assert not alone.fits
    assert many.fits
    assert many.sharded
    assert many.largest_batch >= 1
    small = PUBLISHED["gpt2"].config
    assert not predict(small, h100, 8).sharded
    assert predict(small, h100, recompute=True).largest_batch > predict(small, h100).largest_batch
    assert memory(small, 1, shards=4).optimizer == pytest.approx(memory(small, 1).optimizer / 4, rel=1e-6)


def test_llama_took_about_as_long_as_it_is_said_to_have() -> None:
    # Touvron et al. 2023, table 2: 184,320 hours of A100s for the 7B.
    one = PUBLISHED["llama2-7b"]
    made = predict(one.config, DEVICES["a100"], 1024, tokens=one.tokens, batch=1)
    assert made.seconds / 3600 * 1024 == pytest.approx(184_320, rel=0.15)
