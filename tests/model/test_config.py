import dataclasses

import pytest

from quoth.model.config import FAMILIES, GPTConfig, family
from quoth.system.errors import InputError


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"width": 100, "heads": 3}, "heads must divide width, but 3 does not divide 100."),
        ({"heads": 0}, "heads must divide width, but 0 does not divide 256."),
        ({"heads": 4, "kv_heads": 3}, "kv_heads must divide heads, but 3 does not divide 4."),
        ({"kv_heads": 0}, "kv_heads must be at least 1, not 0."),
        ({"width": 0}, "width must be at least 1, not 0."),
        ({"width": -64}, "width must be at least 1, not -64."),
        ({"head_size": 0}, "head_size must be at least 1, not 0."),
        ({"head_size": 7}, "rotary positions need an even head_size, not 7."),
        ({"context": 0}, "context must be at least 1, not 0."),
        ({"layers": -1}, "layers must be 0 or more, not -1."),
        ({"dropout": 1.0}, "dropout must lie in [0, 1), not 1.0."),
        ({"dropout": float("nan")}, "dropout must lie in [0, 1), not nan."),
        ({"norm": "batchnorm"}, "norm must be one of layernorm, rmsnorm, none, not 'batchnorm'."),
        ({"positions": "alibi"}, "positions must be one of learned, rope, none, not 'alibi'."),
        ({"mlp": "silu"}, "mlp must be one of relu, gelu, swiglu, not 'silu'."),
        ({"initialization": "xavier"}, "initialization must be one of normal, zero, torch, not 'xavier'."),
        ({"layer": 3}, "A model has no setting 'layer' (did you mean 'layers'?)."),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(given, sentence):
    with pytest.raises(InputError) as error:
        family("modern", vocabulary=65, **given)
    assert str(error.value) == sentence


def test_an_unknown_family_gets_a_suggestion():
    with pytest.raises(InputError, match=r"^There is no model family 'gpt-2' \(did you mean 'gpt2'\?\)\.$"):
        family("gpt-2", vocabulary=65)
    with pytest.raises(InputError, match=r"^There is no model family 'xyz' \(there is gpt2, lecture, modern\)\.$"):
        family("xyz", vocabulary=65)


def test_a_vocabulary_of_nothing_is_refused():
    with pytest.raises(InputError, match="vocabulary must be at least 1, not 0"):
        family("lecture", vocabulary=0)


def test_changes_are_checked_too():
    config = family("gpt2", vocabulary=65)
    assert config.replace(layers=3).layers == 3
    with pytest.raises(InputError, match="kv_heads"):
        config.replace(kv_heads=5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.layers = 3


@pytest.mark.parametrize("name", FAMILIES)
def test_a_config_is_complete(name):
    config = family(name, vocabulary=65)
    assert GPTConfig(**dataclasses.asdict(config)) == config


@pytest.mark.parametrize(
    ("name", "given", "follows"),
    [
        ("modern", {"width": 384}, {"heads": 6, "kv_heads": 6, "head_size": 64, "hidden": 1024}),
        ("modern", {"width": 32}, {"heads": 1, "head_size": 32, "hidden": 96}),
        ("modern", {"width": 256, "head_size": 32}, {"heads": 8, "head_size": 32}),
        ("modern", {"width": 96, "heads": 2, "head_size": 64}, {"heads": 2, "head_size": 64}),
        ("modern", {"heads": 4, "kv_heads": 2, "hidden": 100}, {"kv_heads": 2, "head_size": 64, "hidden": 100}),
        ("lecture", {}, {"heads": 6, "kv_heads": 6, "head_size": 64, "hidden": 1536}),
        ("gpt2", {}, {"heads": 12, "head_size": 64, "hidden": 3072}),
    ],
)
def test_what_is_left_out_follows_from_the_width(name, given, follows):
    config = family(name, vocabulary=65, **given)
    assert {key: getattr(config, key) for key in follows} == follows
    assert {key: getattr(config, key) for key in given} == given
