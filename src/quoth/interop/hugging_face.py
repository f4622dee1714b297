"""Models as Hugging Face's transformers keep them: a folder of JSON and safetensors, written and read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from quoth.interop.architectures import ARCHITECTURES, Architecture
from quoth.model.config import GPTConfig, family
from quoth.system.errors import InputError
from quoth.system.files import read_json

ACTIVATIONS = {"gelu": "gelu_new", "relu": "relu"}
# What a field of theirs must say where it is there; other values make another model.
MUST_BE = {
    "hidden_act": ("silu",),
    "use_sliding_window": (False, None),
    "mlp_bias": (False, None),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "reorder_and_upcast_attn": (False,),
    "pretraining_tp": (1,),
    "quantization_config": (None,),
}


def their_config(c: GPTConfig, architecture: Architecture, dtype: str, ends: list[int]) -> dict[str, Any]:
    """`config.json` for a model of ours."""
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


def our_config(config: Mapping[str, Any]) -> tuple[GPTConfig, Architecture]:
    """The shape that a `config.json` describes.

    Raises:
        InputError: it is of no architecture, or has a part, that quoth knows.
    """
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise InputError(f"This is a model of the kind {kind!r}; quoth knows {', '.join(ARCHITECTURES)}.")
    for field, allowed in MUST_BE.items():
        if config.get(field, allowed[0]) not in allowed:
            raise InputError(f"The model has {field} {config[field]!r}, which quoth does not know.")
    try:
        c = _gpt2(config) if kind == "gpt2" else _llama(config)
    except KeyError as error:
        raise InputError(f"config.json says nothing of {error.args[0]}.") from error
    return c, ARCHITECTURES[kind]


def _gpt2(config: Mapping[str, Any]) -> GPTConfig:
    activation = config.get("activation_function", "gelu_new")
    known = {theirs: ours for ours, theirs in ACTIVATIONS.items()} | {"gelu_pytorch_tanh": "gelu"}
    if activation not in known:
        raise InputError(f"The model has the activation {activation!r}, which quoth does not know.")
    return family(
        "gpt2",
        vocabulary=config["vocab_size"],
        context=config.get("n_positions", 1024),
        width=config["n_embd"],
        layers=config["n_layer"],
        heads=config["n_head"],
        hidden=config.get("n_inner") or 4 * config["n_embd"],
        mlp=known[activation],
        norm_eps=config.get("layer_norm_epsilon", 1e-5),
        tied=config.get("tie_word_embeddings", True),
    )


def _llama(config: Mapping[str, Any]) -> GPTConfig:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if (scaled := rope.get("rope_type", rope.get("type", "default"))) != "default":
        raise InputError(f"The model stretches its rotary positions ({scaled}), which quoth does not know.")
    if config.get("attention_bias"):
        raise InputError("The model has attention_bias, which quoth does not know with rotary positions.")
    heads, kind = config["num_attention_heads"], config["model_type"]
    return family(
        "modern",
        vocabulary=config["vocab_size"],
        context=config["max_position_embeddings"],
        width=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_size=config.get("head_dim") or config["hidden_size"] // heads,
        hidden=config["intermediate_size"],
        norm_eps=config["rms_norm_eps"],
        rope_theta=float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0),
        qk_norm=kind == "qwen3",
        bias_qkv=kind == "qwen2",
        tied=config.get("tie_word_embeddings", False),
    )


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A folder's config and its weights; nothing in it is run.

    Raises:
        InputError: it is no such folder, is damaged, or its weights are pickles.
    """
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is no model of Hugging Face's: it has no config.json.")
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise InputError(f"{folder / 'config.json'} holds no object.")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
        why = f"only {pickles[0].name}, a pickle, which can run code and is never read" if pickles else "none"
        raise InputError(f"{folder} has no weights in safetensors: there is {why}.")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        named = set(read_json(index).get("weight_map", {}).values())
        if missing := named - {file.name for file in files}:
            raise InputError(f"{folder} lacks {min(missing)}, which its index names.")
    weights: dict[str, Tensor] = {}
    for file in files:
        try:
            weights |= load_file(file)
        except (OSError, SafetensorError, json.JSONDecodeError) as error:
            raise InputError(f"{file} cannot be read as safetensors: {error}.") from error
    return config, weights
