"""Adapters around a layer or on its weight are heard, in training and evaluation, and are merged or refused."""

import pytest
import torch
from model.adapters import KINDS, adapt
from model.test_gpt import families, make, some_tokens

from quoth.model.gpt import effective_weights, replaced_parts
from quoth.system.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@families
def test_an_adapter_is_heard_however_it_was_put_on(name, kind, training):
    model, plain = make(name), make(name)
    plain.load_state_dict(model.state_dict())
    plain.load_state_dict(adapt(model, kind), strict=False)
    tokens = some_tokens()
    model.train(training), plain.train(training)
    got = model(tokens)
    torch.testing.assert_close(got, plain(tokens), rtol=1e-10, atol=1e-10)
    got.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@families
def test_the_weights_that_a_model_computes_with_have_its_parametrizations_in_them(name):
    model, plain = make(name), make(name)
    merged = {**model.state_dict(), **adapt(model, "parametrized")}
    plain.load_state_dict(effective_weights(model))
    for weight, tensor in plain.state_dict().items():
        torch.testing.assert_close(tensor, merged[weight], rtol=0, atol=1e-12, msg=weight)
    assert replaced_parts(model) == []
    assert effective_weights(plain).keys() == plain.state_dict().keys()


@pytest.mark.parametrize("kind", ["wrapped", "derived"])
def test_a_part_that_is_not_its_configs_has_no_weights_to_give(kind):
    model = make("modern")
    adapt(model, kind)
    assert "blocks.1.attention.out" in replaced_parts(model)
    with pytest.raises(InputError, match=r"The model's blocks\.0\.attention\.query is not the part that its config"):
        effective_weights(model)
