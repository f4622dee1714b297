"""What a file says and quoth does not know is refused by its name; what changes nothing passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from interop.test_hugging_face import bpe, edit, exported, made
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)

from quoth.interop.export import export_gguf
from quoth.interop.importing import import_model
from quoth.system.errors import InputError
from quoth.text.tokenizer import load

assert exported  # A fixture.

SMALL = {"vocab_size": 310, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
CONFIGS = {
    "llama": LlamaConfig(**SMALL, **HEADS),
    "llama tied": LlamaConfig(**SMALL, **HEADS, tie_word_embeddings=True, rope_theta=500_000.0),
    "qwen2": Qwen2Config(**SMALL, **HEADS),
    "qwen3": Qwen3Config(**SMALL, **HEADS, head_dim=12, sliding_window=None),
    "gpt2": GPT2Config(vocab_size=310, n_positions=64, n_embd=32, n_layer=2, n_head=4),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_what_transformers_saves_is_the_same_model_here(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
    for p in theirs.parameters():  # Biases and norms, too.
        p.data += 0.05 * torch.randn_like(p)
    theirs.generation_config.eos_token_id = 5
    theirs.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(bpe().dump())
    ours, tokenizer = import_model(tmp_path)
    ids = torch.arange(60)[None] * 5 % 300
    with torch.inference_mode():
        wanted = theirs(ids).logits[..., : tokenizer.vocabulary]
        torch.testing.assert_close(ours(ids), wanted, atol=1e-4, rtol=1e-4)


# The fields of published configs, written by several versions of transformers.
PUBLISHED = {
    "architectures": ["Qwen3ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": None, "initializer_range": 0.02,
    "max_window_layers": 28, "pretraining_tp": 1, "rope_scaling": None, "sliding_window": None,
    "torch_dtype": "bfloat16", "transformers_version": "4.51.0", "use_cache": True, "use_sliding_window": False,
    "_name_or_path": "a/b",
    "mlp_bias": False, "is_llama_config": True, "rope_interleaved": False, "use_mrope": False, "pad_token_id": 2,
    "quantization_config": None, "tokenizer_class": "Qwen2Tokenizer", "layer_types": ["full_attention"] * 2,
    "transformers.js_config": {"dtype": "q4"}, "gradient_checkpointing": False, "id2label": {"0": "LABEL_0"},
}  # fmt: skip


def test_fields_that_change_nothing_pass(exported: Path) -> None:
    edit(exported, **PUBLISHED)
    import_model(exported)


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": ["Qwen3ForSequenceClassification"]},
        {"attention_bias": True},
        {"use_sliding_window": True},
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_scaling": {"type": "default", "rope_type": "yarn"}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "attention_factor": 2.0}},
        {"rope_parameters": [3]},
        {"partial_rotary_factor": 0.25},
        {"attn_logit_softcapping": 50.0},
        {"final_logit_softcapping": 30.0},
        {"logit_scale": 0.1},
        {"embedding_multiplier": 12.0},
        {"residual_multiplier": 0.2},
        {"mup_width_scale": 2},
        {"num_experts": 8},
        {"hidden_act": "gelu"},
        {"auto_map": {"AutoModel": "modeling.Model"}},
        {"a_new_idea": 1},
        {"tie_word_embeddings": "yes"},
        {"rms_norm_eps": "small"},
        {"rms_norm_eps": None},
        {"rope_theta": -1.0},
        {"num_hidden_layers": 2.5},
        {"num_attention_heads": True},
        {"max_position_embeddings": 2**31 - 1},
        {"vocab_size": 2**62},
        {"hidden_size": 0},
    ],
    ids=str,
)
def test_a_field_that_is_not_known_is_named(exported: Path, changes: dict[str, Any]) -> None:
    edit(exported, **changes)
    with pytest.raises(InputError, match=next(iter(changes)) if "yarn" not in str(changes) else "stretches"):
        import_model(exported)


def test_a_llama_with_a_sliding_window(exported: Path) -> None:
    edit(exported, model_type="llama", architectures=["LlamaForCausalLM"], use_sliding_window=None, sliding_window=4096)
    with pytest.raises(InputError, match="sliding_window 4096"):
        import_model(exported)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.layers.0.self_attn.q_proj.bias", "no place for"),
        ("model.layers.2.input_layernorm.weight", "no place for"),
        ("model.layers.0.self_attn.q_proj.weight_scale_inv", "no place for"),
        ("score.weight", "no place for"),
    ],
)
def test_a_weight_without_a_place_is_named(name: str, said: str, exported: Path) -> None:
    weights = load_file(exported / "model.safetensors")
    save_file({**weights, name: torch.ones(3)}, exported / "model.safetensors")
    with pytest.raises(InputError, match=f"{name}.*{said}"):
        import_model(exported)
    save_file(
        {**weights, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}, exported / "model.safetensors"
    )
    import_model(exported)


def test_tied_weights_of_two_values(exported: Path) -> None:
    edit(exported, tie_word_embeddings=True)
    with pytest.raises(InputError, match=r"tied to its head, but lm_head\.weight has other values"):
        import_model(exported)
    weights = load_file(exported / "model.safetensors")
    copy = weights["model.embed_tokens.weight"].clone()
    save_file({**weights, "lm_head.weight": copy}, exported / "model.safetensors")
    assert import_model(exported)[0].config.tied


def test_whole_numbers_are_no_weights(exported: Path) -> None:
    weights = load_file(exported / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"].to(torch.int8)
    save_file(weights, exported / "model.safetensors")
    with pytest.raises(InputError, match=r"model\.norm\.weight is of torch\.int8"):
        import_model(exported)


def test_several_files_need_an_index(exported: Path) -> None:
    weights = load_file(exported / "model.safetensors")
    names = sorted(weights)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: weights[name] for name in part}, exported / file)
    import_model(exported)  # transformers, too, takes model.safetensors before all others.
    (exported / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"2 files of safetensors but no model\.safetensors\.index\.json"):
        import_model(exported)
    index = exported / "model.safetensors.index.json"
    places = {name: file for file, part in shards.items() for name in part}
    index.write_text(json.dumps({"weight_map": places}))
    import_model(exported)
    for changed, said in (
        ({**places, names[0]: "b.safetensors"}, "do not agree on"),
        ({name: file for name, file in places.items() if name != names[0]}, "do not agree on"),
        ({**places, names[0]: "../a.safetensors"}, "lacks '../a.safetensors'"),
        ({**places, names[0]: 3}, "no weight_map"),
    ):
        index.write_text(json.dumps({"weight_map": changed}))
        with pytest.raises(InputError, match=said):
            import_model(exported)


def test_an_adapter_is_refused(exported: Path) -> None:
    (exported / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="holds an adapter"):
        import_model(exported)


def tokenizer_file(**changes: Any) -> str:
    return json.dumps({**json.loads(bpe().dump()), **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {"type": "Unigram", "vocab": [["a", 0.0]]}}, "of the kind 'Unigram' cannot be read"),
        ({"model": {"type": "WordPiece", "vocab": {"a": 0}}}, "of the kind 'WordPiece' cannot be read"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": 0.1}}, r"dropout 0\.1"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "end_of_word_suffix": "</w>"}}, "end_of_word_suffix"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "new": 1}}, "new 1"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}}, r"merge \['a', 'b'\] names 'b'"),
        ({"model": {"type": "BPE", "vocab": {"a": 0, "b": 2}, "merges": []}}, "ids up to 2: some are missing"),
        ({"model": {"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}}, "2 tokens with only 1 different ids"),
        ({"model": {"type": "BPE", "vocab": {"a": 2**31}, "merges": []}}, "ids up to 2,147,483,648"),
        ({"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}, "'a' has the id -1"),
        ({"model": {"type": "BPE", "vocab": {}, "merges": []}}, "has no tokens"),
        ({"normalizer": {"type": "Rot13"}}, "the normalizer 'Rot13'"),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Odd"}]}}, "the pre_tokenizer 'Odd'"),
        ({"decoder": {"type": "WordPiece", "prefix": "##"}}, "the decoder 'WordPiece'"),
        ({"post_processor": {"type": "BertProcessing"}}, "the post_processor 'BertProcessing'"),
        ({"added_tokens": [{"id": 7, "content": "the"}]}, "the token 'the' has the ids 285 and 7"),
        ({"added_tokens": [{"id": 305, "content": "<s>"}]}, "ids up to 305: some are missing"),
    ],
)  # fmt: skip
def test_a_tokenizer_that_is_not_known(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"(?i){said}"):
        load(tokenizer_file(**changes))


def test_what_stands_behind_a_text_is_refused(exported: Path) -> None:
    flags = {**dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False), "special": True}
    special = {"</s>": {"id": "</s>", "ids": [300], "tokens": ["</s>"]}}
    text, end = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}
    template = {"type": "TemplateProcessing", "pair": [text], "special_tokens": special}
    for single, begins in (([end, text], [300]), ([text, end], None), ([end], None)):
        changes = {
            "added_tokens": [{"id": 300, "content": "</s>", **flags}],
            "post_processor": {**template, "single": single},
        }
        if begins is None:
            with pytest.raises(InputError, match=r"behind every text|no single place"):
                load(tokenizer_file(**changes))
        else:
            assert list(load(tokenizer_file(**changes)).begins) == begins
    (exported / "tokenizer_config.json").write_text(json.dumps({"add_eos_token": True}))
    with pytest.raises(InputError, match="add_eos_token"):
        import_model(exported)


def test_a_token_that_only_the_config_adds(exported: Path) -> None:
    added = {"300": {"content": "<extra>", "special": True}}
    (exported / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    with pytest.raises(InputError, match="do not agree on the added token '<extra>'"):
        import_model(exported)


def test_added_tokens_out_of_order(exported: Path) -> None:
    flags = {**dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False), "special": False}
    added = [{"id": i, "content": f"<{i}>", **flags} for i in (300, 302, 301)]
    (exported / "tokenizer.json").write_text(tokenizer_file(added_tokens=added))
    with pytest.raises(InputError, match="'<302>' has the id 302, but its place in the file gives 301"):
        import_model(exported)


def test_ends_must_be_tokens(exported: Path) -> None:
    for ends in (300, -1, [2, "x"], [True]):
        (exported / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
        with pytest.raises(InputError, match="begins or ends texts with"):
            import_model(exported)


# GGUF


def rewrite(path: Path, change: Any) -> Path:
    """A file with other fields: `change` gets a writer before it writes."""
    reader = gguf.GGUFReader(path)
    out = path.with_name("changed.gguf")
    writer = gguf.GGUFWriter(out, "qwen3")
    replaced: dict[str, Any] = change(writer)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture" or name in replaced:
            continue
        sub = field.types[-1] if len(field.types) > 1 else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=sub)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


@pytest.fixture
def file(tmp_path: Path) -> Path:
    tokenizer = bpe()
    return export_gguf(tmp_path / "out", made("qwen3", tokenizer), tokenizer, "f32", "tiny", {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("qwen3.rope.scaling.type", "yarn"),
        ("qwen3.rope.scaling.factor", 4.0),
        ("qwen3.rope.dimension_count", 4),
        ("qwen3.attention.value_length", 6),
        ("qwen3.attention.sliding_window", 16),
        ("qwen3.attention.scale", 0.5),
        ("qwen3.attn_logit_softcapping", 50.0),
        ("qwen3.logit_scale", 2.0),
        ("qwen3.expert_count", 8),
        ("qwen3.a_new_idea", 1),
        ("qwen3.vocab_size", 17),
        ("tokenizer.ggml.add_eos_token", True),
        ("tokenizer.ggml.add_space_prefix", True),
        ("tokenizer.ggml.pre", "deepseek-coder"),
        ("tokenizer.ggml.a_new_idea", 1),
        ("tokenizer.ggml.eot_token_id", 301),
        ("general.type", "adapter"),
    ],
)
def test_a_field_of_gguf_that_is_not_known_is_named(name: str, value: Any, file: Path) -> None:
    def change(writer: Any) -> dict[str, Any]:
        kinds = {bool: gguf.GGUFValueType.BOOL, int: gguf.GGUFValueType.UINT32, float: gguf.GGUFValueType.FLOAT32}
        writer.add_key_value(name, value, kinds.get(type(value), gguf.GGUFValueType.STRING))
        return {name: value}

    said = name.removeprefix("tokenizer.ggml.") if name != "tokenizer.ggml.pre" else value
    with pytest.raises(InputError, match=said if value != "yarn" else r"stretches.*yarn"):
        import_model(rewrite(file, change))


@pytest.mark.parametrize("name", ["blk.0.attn_q.bias", "rope_freqs.weight", "blk.0.attn_sinks.weight"])
def test_a_tensor_of_gguf_without_a_place_is_named(name: str, file: Path) -> None:
    def change(writer: Any) -> dict[str, Any]:
        writer.add_tensor(name, torch.ones(32).numpy())
        return {}

    with pytest.raises(InputError, match=name):
        import_model(rewrite(file, change))


def test_every_end_of_gguf_is_an_end(file: Path) -> None:
    def change(writer: Any) -> dict[str, Any]:
        for n, name in enumerate(("eos", "eot", "eom", "fim_pad")):
            writer.add_uint32(f"tokenizer.ggml.{name}_token_id", 10 + n)
        return {"tokenizer.ggml.eos_token_id": 0}

    # The last is the one that exports add, a control token by the name <|endoftext|>.
    assert list(import_model(rewrite(file, change))[1].ends) == [10, 11, 12, 13, 300]
