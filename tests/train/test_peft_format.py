"""Adapters in and out, against peft itself on the exported base; and what is not known is refused by its name."""

import json
import warnings

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from train.test_adapter_checkpoint import begin, families
from train.test_checkpoint import LETTERS, make, train
from transformers import AutoModelForCausalLM

from quoth.interop.export import export_hf
from quoth.interop.importing import import_model
from quoth.model.gpt import GPT
from quoth.model.lora import Factors, put_on
from quoth.system.errors import InputError
from quoth.train.checkpoint import load, save
from quoth.train.peft_format import join, read_adapter, split

pytestmark = pytest.mark.usefixtures("one_thread")


TOKENS = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 0], [10, 9, 8, 7, 6, 5, 4, 3]])


def exported(folder, model):
    export_hf(folder, model, LETTERS, "f32", "base", {})
    return AutoModelForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize("targets", ["all", "attention", "query,value", "mlp"])
@families
def test_peft_reads_a_checkpoint_of_adapters(tmp_path, name, targets):
    # GPT-2's head has no bias, as the lecture's has.
    model, optimizer = begin(tmp_path / "base", name, {"bias_head": False}, targets=targets)
    train(model, optimizer, 0, 3)
    save(tmp_path / "it", model, LETTERS, {}, optimizer)
    theirs = exported(tmp_path / "hf", load(tmp_path / "base").model)
    plain = theirs(TOKENS).logits
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", FutureWarning)  # transformers' own.
        adapted = peft.PeftModel.from_pretrained(theirs, str(tmp_path / "it")).eval()
    got = model.eval()(TOKENS)
    torch.testing.assert_close(adapted(TOKENS).logits, got, rtol=1e-5, atol=1e-5)
    assert float((got - plain).abs().max()) > 0.01
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(merged(TOKENS).logits, got, rtol=1e-5, atol=1e-5)


def their_adapter(folder, theirs, modules, **given):
    """An adapter that peft made, whose B is no longer zero, and the logits with it."""
    joined = "c_attn" in modules
    config = peft.LoraConfig(
        r=2, lora_alpha=3, target_modules=modules, task_type="CAUSAL_LM", fan_in_fan_out=joined, **given
    )
    adapted = peft.get_peft_model(theirs, config).eval()
    for name, p in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(p, std=0.3)
    adapted.save_pretrained(folder)
    return adapted(TOKENS).logits.detach()


MODULES = {"modern": ["q_proj", "v_proj", "down_proj"], "gpt2": ["c_attn", "mlp.c_proj", "c_fc"]}
SETTINGS = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "one layer": {"layers_to_transform": [1]},
    "dropout": {"lora_dropout": 0.5},
    "gaussian": {"init_lora_weights": "gaussian"},
    "patterns": {"rank_pattern": {"down_proj": 4, r".*\.0\.mlp\.c_proj": 6}, "alpha_pattern": {"q_proj": 7, "c_fc": 1}},
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", MODULES)
def test_an_adapter_that_peft_made_is_read(tmp_path, name, setting):
    base = make(name).eval()
    wanted = their_adapter(tmp_path / "it", exported(tmp_path / "hf", base), MODULES[name], **SETTINGS[setting])
    put_on(base, read_adapter(tmp_path / "it", base))
    torch.testing.assert_close(base.eval()(TOKENS), wanted, rtol=1e-5, atol=1e-5)
    again = import_model(tmp_path / "hf")[0].eval()
    put_on(again, read_adapter(tmp_path / "it", again))
    assert torch.equal(again.eval()(TOKENS), base(TOKENS))


def test_an_adapter_of_a_model_without_its_head_is_read(tmp_path):
    base = make("modern").eval()
    wanted = their_adapter(tmp_path / "it", exported(tmp_path / "hf", base), ["q_proj"])
    path = tmp_path / "it/adapter_model.safetensors"
    save_file({key.replace(".model.model.", ".model."): t.bfloat16() for key, t in load_file(path).items()}, path)
    put_on(base, read_adapter(tmp_path / "it", base))
    torch.testing.assert_close(base.eval()(TOKENS), wanted, rtol=0.05, atol=0.1)


def test_what_joins_into_one_layer_comes_out_as_it_went_in():
    sizes = [(4, 6), (2, 6), (2, 6)]
    parts = [Factors(torch.randn(3, 6), torch.randn(out, 3), 5.0) for out, _ in sizes]
    for given in (parts, [parts[0], None, parts[2]], [None, None, parts[2]]):
        joined = join(given, sizes)
        update = [part.update if part else torch.zeros(size) for part, size in zip(given, sizes, strict=True)]
        torch.testing.assert_close(joined.update, torch.cat(update))
        for got, part in zip(split(joined, [4, 2, 2]), given, strict=True):
            assert (got is None) == (part is None)
            assert not part or (torch.equal(got.a, part.a) and torch.equal(got.b, part.b) and got.alpha == part.alpha)
    whole = Factors(torch.randn(3, 6), torch.randn(8, 3), 5.0)
    torch.testing.assert_close(torch.cat([part.update for part in split(whole, [4, 2, 2])]), whole.update)


@pytest.fixture
def folder(tmp_path):
    """A model's adapter as peft keeps it."""
    model, _ = begin(tmp_path / "base")
    save(tmp_path / "it", model, LETTERS, {})
    return tmp_path / "it"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"peft_type": "LOHA"}, "says peft_type = 'LOHA', which quoth does not know"),
        ({"peft_type": None}, "says peft_type = None"),
        ({"use_dora": True}, "says use_dora = True, which quoth does not know"),
        ({"bias": "all"}, "says bias = 'all'"),
        ({"lora_bias": True}, "says lora_bias = True"),
        ({"modules_to_save": ["lm_head"]}, r"says modules_to_save = \['lm_head'\]"),
        ({"init_lora_weights": "pissa"}, "says init_lora_weights = 'pissa'"),
        ({"trainable_token_indices": [1]}, r"says trainable_token_indices = \[1\]"),
        ({"layer_replication": [[0, 1]]}, "says layer_replication"),
        ({"something_new": {"a": 1}}, "says something_new = {'a': 1}, which quoth does not know"),
        ({"r": 3}, "has rank 3, and its tensors have 2"),
        ({"r": None}, "has rank None"),
        ({"lora_alpha": "four"}, "the lora_alpha 'four', which is no number"),
        ({"lora_alpha": None}, "the lora_alpha None, which is no number"),
        ({"rank_pattern": [1]}, "says rank_pattern"),
    ],
)
def test_settings_that_are_not_known_are_refused_by_name(folder, given, said):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **given}))
    with pytest.raises(InputError, match=said):
        read_adapter(folder, make())


@pytest.mark.parametrize("text", ["", "[]", "3", "{"])
def test_a_config_that_is_none_is_refused(folder, text):
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(InputError, match=r"adapter_config\.json"):
        read_adapter(folder, make())


Q = "base_model.model.model.layers.0.self_attn.q_proj"


def factors(layer, outputs, inputs):
    return {f"{layer}.lora_A.weight": torch.ones(2, inputs), f"{layer}.lora_B.weight": torch.ones(outputs, 2)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({f"{Q}.lora_A.weight": None}, "has no A and B of one rank for model.layers.0.self_attn.q_proj"),
        ({f"{Q}.lora_B.weight": torch.ones(16, 3)}, "has no A and B of one rank"),
        ({f"{Q}.lora_A.weight": torch.ones(2, 17)}, "is for another base: its .*q_proj has 17 inputs and 16 outputs"),
        ({f"{Q}.lora_A.weight": torch.ones(2, 16, dtype=torch.int8)}, "which is no part of a linear layer's adapter"),
        ({f"{Q}.lora_magnitude_vector": torch.ones(16)}, "lora_magnitude_vector, which is no part of a linear"),
        ({"base_model.model.lm_head.weight": torch.ones(11, 16)}, "holds base_model.model.lm_head.weight, which is no"),
        ({"base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(2, 11)}, "lora_embedding_A, which is no"),
        (
            factors("base_model.model.lm_head", 11, 16),
            "adapts lm_head, which is no linear layer",
        ),
        (
            factors(Q.replace("0", "7"), 16, 16),
            "adapts model.layers.7.self_attn.q_proj, which is no linear layer of this base",
        ),
    ],
)  # fmt: skip
def test_tensors_that_are_not_known_are_refused_by_name(folder, changes, said):
    path = folder / "adapter_model.safetensors"
    save_file({key: t for key, t in {**load_file(path), **changes}.items() if t is not None}, path)
    with pytest.raises(InputError, match=said):
        read_adapter(folder, make())


def test_a_pickle_is_refused(folder):
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(InputError, match=r"holds adapter_model\.bin, a pickle, which could run code"):
        read_adapter(folder, make())
    (folder / "adapter_model.bin").unlink()
    with pytest.raises(InputError, match=r"adapter_model\.safetensors cannot be read"):
        read_adapter(folder, make())


def test_an_adapter_for_another_base_is_refused(folder):
    other = GPT(make().config.replace(width=24, head_size=12))
    with pytest.raises(
        InputError, match=r"is for another base: its .* has .* inputs and 16 outputs, and the base's has .* and 24"
    ):
        read_adapter(folder, other)


def test_a_model_that_only_quoth_runs_is_adapted_under_its_own_names(tmp_path):
    model, optimizer = begin(tmp_path / "base", shape={"positions": "none"}, targets="query")
    train(model, optimizer, 0, 2)
    save(tmp_path / "it", model, LETTERS, {})
    saved = load_file(tmp_path / "it/adapter_model.safetensors")
    assert saved.keys() == {
        f"base_model.model.blocks.{layer}.attention.query.lora_{x}.weight" for layer in (0, 1) for x in "AB"
    }
    assert torch.equal(load(tmp_path / "it").model(TOKENS), model.eval()(TOKENS))
