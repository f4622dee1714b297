"""A model's shape as the `config.json` of Hugging Face's transformers, written and read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quoth.interop.fields import Fields
from quoth.model.architectures import ARCHITECTURES, Architecture
from quoth.model.config import GPTConfig, family
from quoth.system.errors import InputError, plain, short

ACTIVATIONS = {"gelu": "gelu_new", "relu": "relu"}
# The longest context of a published model; a table of rotary angles has a row for each position.
LONGEST_CONTEXT = 2**22
# Fields that change neither the logits nor the ids: dropout, training, bookkeeping, and, from bad_words_ids on, what
# transformers before version 5 wrote of how to generate. Ends and types of numbers are read elsewhere.
IGNORED = (
    "_num_labels", "max_sequence_length", "n_special", "predict_special_tokens",
    "_attn_implementation", "_attn_implementation_autoset", "_commit_hash", "_name_or_path", "attention_dropout",
    "attn_pdrop", "bos_token_id", "dtype", "embd_pdrop", "eos_token_id", "finetuning_task", "gradient_checkpointing",
    "id2label", "initializer_range", "is_llama_config", "keys_to_ignore_at_inference", "label2id", "max_window_layers",
    "model_type", "n_ctx", "name_or_path", "output_attentions", "output_hidden_states", "output_past", "pad_token_id",
    "problem_type", "resid_pdrop", "return_dict", "sep_token_id", "summary_activation", "summary_first_dropout",
    "summary_proj_to_labels", "summary_type", "summary_use_proj", "task_specific_params", "tokenizer_class",
    "torch_dtype", "torchscript", "transformers.js_config", "transformers_version", "unsloth_fixed", "unsloth_version",
    "use_cache", "use_return_dict", "bad_words_ids", "begin_suppress_tokens", "decoder_start_token_id",
    "diversity_penalty", "do_sample", "early_stopping", "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id", "length_penalty", "max_length",
    "min_length", "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences", "output_scores",
    "prefix", "remove_invalid_values", "repetition_penalty", "return_dict_in_generate", "suppress_tokens",
    "temperature", "tf_legacy_loss", "top_k", "top_p", "typical_p", "use_bfloat16",
)  # fmt: skip
# What a field must say where it is there; other values make another model.
MUST_BE: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "attention_bias": (False,),
    "chunk_size_feed_forward": (0,),
    "cross_attention_hidden_size": (),
    "hidden_act": ("silu", "swish"),
    "is_decoder": (False, True),
    "is_encoder_decoder": (False,),
    "mlp_bias": (False,),
    "partial_rotary_factor": (1,),
    "pretraining_tp": (1,),
    "pruned_heads": ({},),
    "quantization_config": (),
    "reorder_and_upcast_attn": (False,),
    "rope_interleaved": (False,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "scale_attn_weights": (True,),
    "tie_encoder_decoder": (False,),
    "use_mrope": (False,),
    "use_sliding_window": (False,),
}


def config_json(c: GPTConfig, architecture: Architecture, dtype: str, ends: list[int]) -> dict[str, Any]:
    """The `config.json` of a quoth model."""
    config: dict[str, Any] = {
        "architectures": [architecture.model],
        "model_type": architecture.name,
        "vocab_size": c.vocabulary,
        "tie_word_embeddings": c.tied,
        "dtype": dtype,
        "torch_dtype": dtype,  # As it was called before transformers 5.
        "bos_token_id": None,
        "eos_token_id": ends[0] if len(ends) == 1 else ends or None,
    }
    if architecture.name == "gpt2":
        return config | {
            "n_positions": c.context,
            "n_embd": c.width,
            "n_layer": c.layers,
            "n_head": c.heads,
            "n_inner": c.hidden,
            "activation_function": ACTIVATIONS.get(c.mlp, c.mlp),
            "layer_norm_epsilon": c.norm_eps,
            "resid_pdrop": c.dropout,
            "embd_pdrop": c.dropout,
            "attn_pdrop": c.dropout,
        }
    return config | {
        "hidden_size": c.width,
        "intermediate_size": c.hidden,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads,
        "head_dim": c.head_size,
        "hidden_act": "silu",
        "rms_norm_eps": c.norm_eps,
        "max_position_embeddings": c.context,
        "rope_theta": c.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": c.rope_theta},
        "attention_bias": False,
        "use_sliding_window": False,
    }


def gpt_config(config: Mapping[str, Any]) -> tuple[GPTConfig, Architecture]:
    """The shape that a `config.json` describes.

    Raises:
        InputError: the model is of no architecture that quoth knows, or a field of the file is missing, damaged or not
            known; the message names the field.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        raise InputError(f"This is a model of the kind {short(kind)}; quoth knows {', '.join(ARCHITECTURES)}.")
    architecture = ARCHITECTURES[kind]
    fields = Fields(config, "config.json")
    fields.ignore(IGNORED)
    bare = architecture.model.replace("ForCausalLM", "Model").replace("LMHeadModel", "Model")
    fields.only("architectures", [architecture.model], [bare], [])
    for name, allowed in MUST_BE.items():
        fields.only(name, *allowed)
    c = _gpt2(fields) if kind == "gpt2" else _with_rotary_positions(fields, kind)
    fields.finish()
    return c, architecture


def _gpt2(fields: Fields) -> GPTConfig:
    known = {theirs: ours for ours, theirs in ACTIVATIONS.items()} | {"gelu_pytorch_tanh": "gelu"}
    fields.only("activation_function", *known)
    width = fields.whole("n_embd")
    return family(
        "gpt2",
        vocabulary=fields.whole("vocab_size"),
        context=fields.whole("n_positions", 1024, LONGEST_CONTEXT),
        width=width,
        layers=fields.whole("n_layer"),
        heads=fields.whole("n_head"),
        hidden=fields.whole("n_inner", 4 * width),
        mlp=known[fields.get("activation_function") or "gelu_new"],
        norm_eps=fields.positive("layer_norm_epsilon", 1e-5),
        tied=fields.flag("tie_word_embeddings", True),
    )


def _with_rotary_positions(fields: Fields, kind: str) -> GPTConfig:
    if fields.get("use_sliding_window") is None and kind == "llama":
        fields.only("sliding_window")
    fields.get("sliding_window")
    layers = fields.whole("num_hidden_layers")
    types = fields.get("layer_types")
    if types is not None and (not isinstance(types, list) or {*map(str, types)} - {"full_attention"}):
        raise InputError(f"config.json has layer_types {short(types)}, which quoth does not know.")
    width, heads = fields.whole("hidden_size"), fields.whole("num_attention_heads")
    # Where a field is missing, transformers takes 128 channels a head in Qwen3, and 32 heads of keys in both Qwens.
    size = 128 if kind == "qwen3" else max(1, width // heads)
    kv_heads = 32 if kind != "llama" and "num_key_value_heads" not in fields else heads
    return family(
        "modern",
        vocabulary=fields.whole("vocab_size"),
        context=fields.whole("max_position_embeddings", most=LONGEST_CONTEXT),
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=fields.whole("num_key_value_heads", kv_heads),
        head_size=fields.whole("head_dim", size),
        hidden=fields.whole("intermediate_size"),
        norm_eps=fields.positive("rms_norm_eps"),
        rope_theta=_rope_theta(fields),
        qk_norm=kind == "qwen3",
        bias_qkv=kind == "qwen2",
        tied=fields.flag("tie_word_embeddings", False),
    )


def _rope_theta(fields: Fields) -> float:
    """The base of the rotary frequencies, which stands in one of three places.

    Raises:
        InputError: the positions are stretched or turn only some of the channels.
    """
    theta = fields.positive("rope_theta", 10_000.0)
    for place in ("rope_scaling", "rope_parameters"):
        given = fields.get(place)
        if given is None:
            continue
        if not isinstance(given, dict):
            raise InputError(f"config.json has {place} {short(given)}, which is no object.")
        rope = Fields(given, f"{place} in config.json")
        kind = rope.get("rope_type") or rope.get("type") or "default"
        if kind != "default" or rope.get("type") not in (None, "default"):
            raise InputError(
                f"The model stretches its rotary positions ({plain(str(kind))}) by {place}, which quoth does not know."
            )
        rope.only("partial_rotary_factor", 1)
        theta = rope.positive("rope_theta", theta)
        rope.finish()
    return theta
