"""Adapters against the formula, in float64, and against the weights that they are merged into."""

import copy

import pytest
import torch
from model.test_gpt import families, make, some_tokens
from torch import nn

from quoth.generate.engine import Engine
from quoth.generate.request import Request
from quoth.generate.sampling import Sampling
from quoth.model.gpt import effective_weights, replaced_parts
from quoth.model.lora import LoRALinear, adapters, add_lora, base_weights, is_adapted, merge, without_adapters
from quoth.system.errors import InputError
from quoth.text.tokenizer import Characters

pytestmark = pytest.mark.usefixtures("one_thread")

LETTERS = Characters("abcdefghijklmnopqrstuvw")


def adapted(name="modern", targets="all", rank=2, alpha=3.0):
    """A model with adapters that are no longer zero."""
    model = make(name)
    add_lora(model, rank, alpha, targets)
    for layer in adapters(model).values():
        nn.init.normal_(layer.lora_B, std=0.3)
    return model


@pytest.mark.parametrize("training", [True, False])
@families
def test_new_adapters_change_no_bit(name, training):
    model, tokens = make(name).train(training), some_tokens()
    wanted = model(tokens)
    add_lora(model, 2)
    torch.testing.assert_close(model(tokens), wanted, rtol=0, atol=0 if not training else 1e-12)


@pytest.mark.parametrize("training", [True, False])
@families
def test_gradients_are_those_of_the_explicit_sum(name, training):
    model, plain, tokens = adapted(name).train(training), make(name).train(training), some_tokens()
    factors = {n: (x.lora_A.detach().clone(), x.lora_B.detach().clone()) for n, x in adapters(model).items()}
    leaves = [factor.requires_grad_() for pair in factors.values() for factor in pair]
    weights = base_weights(model)
    for layer, (a, b) in factors.items():
        weights[f"{layer}.weight"] = weights[f"{layer}.weight"] + 3.0 / 2 * b @ a
    wanted = torch.func.functional_call(plain, weights, tokens, tie_weights=False)
    got = model(tokens)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)
    got.square().sum().backward()
    for layer, (a, b) in zip(
        adapters(model).values(),
        zip(*2 * [iter(torch.autograd.grad(wanted.square().sum(), leaves))], strict=True),
        strict=True,
    ):
        torch.testing.assert_close(layer.lora_A.grad, a, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(layer.lora_B.grad, b, rtol=1e-9, atol=1e-9)
    trained = {n for n, p in model.named_parameters() if p.grad is not None}
    assert trained == {f"{layer}.lora_{x}" for layer in factors for x in "AB"}


@families
def test_merged_equals_unmerged_in_float32(name):
    model, tokens = adapted(name).float().eval(), some_tokens()
    before, weights = model(tokens).detach(), effective_weights(model)
    assert replaced_parts(model) == []
    kept = {name: id(p) for name, p in base_weights(model).items()}
    merge(model)
    assert not is_adapted(model) and all(p.requires_grad for p in model.parameters())
    torch.testing.assert_close(model(tokens), before, rtol=0, atol=1e-6 * float(before.abs().max()))
    assert model.state_dict().keys() == weights.keys() == kept.keys()
    for weight, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[weight]), weight
    assert all(type(m) is not LoRALinear for m in model.modules())


def test_adding_a_small_update_in_bfloat16_would_lose_most_of_it():
    """It is summed in float32 whatever the number type is around it."""
    linear = nn.Linear(256, 256, bias=False)
    nn.init.normal_(linear.weight, std=0.05)
    layer = LoRALinear(linear, 8, 8.0)
    nn.init.normal_(layer.lora_B, std=1e-4)
    plain = layer.base.detach().clone()
    update = (layer.lora_B @ layer.lora_A).detach()
    rounded = (plain.bfloat16() + update.bfloat16()).float() - plain.bfloat16().float()
    assert float((rounded - update).norm() / update.norm()) > 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        merged = layer.merged().weight.detach()
    assert float((merged - plain - update).norm() / update.norm()) < 1e-3
    half = LoRALinear(nn.Linear(256, 256, bias=False).bfloat16(), 8, 8.0)
    nn.init.normal_(half.lora_B, std=1.0)
    exact = half.base.float() + half.lora_B.float() @ half.lora_A.float()
    assert half.weight.dtype == torch.bfloat16 and torch.equal(half.weight, exact.bfloat16())


@pytest.mark.parametrize("compiled", [True, False])
@families
def test_an_engine_writes_what_the_merged_model_would(name, compiled):
    model = adapted(name).float()
    plain = copy.deepcopy(model)
    merge(plain)
    asked = [Request(prompt=[1, 2], tokens=6, sampling=Sampling(temperature=0.0), seed=3)]
    written = [Engine(m, LETTERS, slots=1, compiled=compiled).generate(asked)[0].answer for m in (model, plain)]
    assert written[0] == written[1]


@pytest.mark.parametrize("compiled", [True, False])
def test_an_engine_of_the_base_takes_adapted_weights(compiled):
    plain = make("modern").float()
    model = copy.deepcopy(plain)
    add_lora(model, 2)
    for layer in adapters(model).values():
        nn.init.normal_(layer.lora_B)
    asked = [Request(prompt=[1, 2], tokens=9, sampling=Sampling(temperature=0.0), seed=3)]
    engine = Engine(plain, LETTERS, slots=1, compiled=compiled)
    first = engine.generate(asked)[0].answer
    engine.reload(model)
    second = engine.generate(asked)[0].answer
    assert second == Engine(model, LETTERS, slots=1, compiled=compiled).generate(asked)[0].answer != first


def test_the_base_is_there_without_its_adapters():
    plain, tokens = make("modern"), some_tokens()
    model = copy.deepcopy(plain)
    add_lora(model, 2)
    for layer in adapters(model).values():
        nn.init.normal_(layer.lora_B)
    assert not torch.equal(model.eval()(tokens), plain.eval()(tokens))
    with without_adapters(model):
        assert torch.equal(model(tokens), plain(tokens))
        assert torch.equal(effective_weights(model)["blocks.0.mlp.up.weight"], plain.blocks[0].mlp.up.weight)
    assert not torch.equal(model(tokens), plain(tokens))


ATTENTION = {"attention.query", "attention.key", "attention.value", "attention.out"}
MLP = {"mlp.gate", "mlp.up", "mlp.down"}


@pytest.mark.parametrize(
    ("targets", "layers"),
    [
        ("attention", ATTENTION),
        ("mlp", MLP),
        ("all", ATTENTION | MLP),
        ("attention,mlp", ATTENTION | MLP),
        (["query", "value"], {"attention.query", "attention.value"}),
        ("attention.out, down", {"attention.out", "mlp.down"}),
    ],
)
def test_targets_name_layers(targets, layers):
    model = adapted(targets=targets)
    assert {name.split(".", 2)[2] for name in adapters(model)} == layers
    assert {name.split(".")[1] for name in adapters(model)} == {"0", "1"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"targets": "head"}, "Adapters cannot be added to head: its rows belong to single tokens"),
        ({"targets": "embed"}, "Adapters cannot be added to embed: its rows"),
        ({"targets": "atention"}, r"have no linear layer 'atention' \(did you mean 'attention'\?\)\."),
        ({"targets": ""}, "have no linear layer ''"),
        ({"rank": 0}, "The rank of adapters must lie in 1 to"),
        ({"rank": 999}, "The rank of adapters must lie in 1 to .*, not 999"),
        ({"alpha": 0.0}, "The alpha of adapters must be a finite number above 0, not 0.0"),
        ({"alpha": float("nan")}, "The alpha of adapters must be a finite number above 0, not nan"),
    ],
)
def test_what_cannot_be_adapted_is_refused(given, said):
    model = make("modern")
    with pytest.raises(InputError, match=said):
        add_lora(model, **{"rank": 2, **given})
    assert not is_adapted(model) and all(p.requires_grad for p in model.parameters())


def test_adapters_are_added_once():
    model = adapted()
    with pytest.raises(InputError, match="The model has adapters already; merge them"):
        add_lora(model, 2)
