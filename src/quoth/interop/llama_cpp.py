"""Models as llama.cpp and Ollama keep them: one GGUF file, written with the package gguf, and read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quoth.interop.fields import Fields
from quoth.interop.gguf_file import read
from quoth.interop.hugging_face_config import LONGEST_CONTEXT
from quoth.interop.tokenizer_files import as_byte_level
from quoth.model.architectures import ARCHITECTURES, Architecture
from quoth.model.config import GPTConfig, family
from quoth.system.errors import InputError, plain, short
from quoth.system.files import writing
from quoth.text.tokenizer import Tokenizer

# Names for a token that ends an answer, where a tokenizer has none: llama.cpp would take number 11 for it.
END_NAMES = ("<|endoftext|>", *(f"<|endoftext_{n}|>" for n in range(2, 100)))
# The fields for tokens that end an answer.
ENDS = ("eos", "eot", "eom")
# What a field must say where it is there; other values make another model.
MUST_BE: dict[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.sliding_window": (0,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "pooling_type": (0,),
    "use_parallel_residual": (False,),
}


def write_gguf(
    path: Path,
    weights: Mapping[str, Tensor],
    c: GPTConfig,
    architecture: Architecture,
    tokenizer: Tokenizer,
    dtype: str,
    name: str,
    end: int | None,
) -> None:
    """Write a file from weights by Hugging Face's names; their type in the file is f32, bf16, f16 or q8_0.

    Where a tokenizer has no token that ends answers, the file gets one that is as likely as the token `end`.

    Raises:
        InputError: llama.cpp does not know such a model, or the file may not be written.
    """
    import gguf

    if len(tokenizer.ends) > len(ENDS):
        raise InputError(f"GGUF names at most {len(ENDS)} tokens that end an answer, and this model has more.")
    if c.mlp == "relu":
        raise InputError(
            "llama.cpp's GPT-2 has GELU, not ReLU; export to hf, or train with --mlp gelu or --preset gpt2."
        )
    named = {theirs: llama_cpp for _, theirs, llama_cpp in architecture.weights(c)}
    arrays = {named[theirs]: _to_llama_cpp(theirs, tensor, c, architecture) for theirs, tensor in weights.items()}
    vocabulary = as_byte_level(tokenizer)
    tokens = vocabulary.tokens
    ends = list(tokenizer.ends)
    if end is not None:
        ends = [len(tokens)]
        tokens = [*tokens, next(name for name in END_NAMES if name not in tokens)]
        for weight in {"token_embd.weight", "output.weight"} & arrays.keys():
            arrays[weight] = np.concatenate((arrays[weight], arrays[weight][end : end + 1]))
    with writing(path):
        writer = gguf.GGUFWriter(path, architecture.name)
        _describe(writer, c.replace(vocabulary=len(tokens)), architecture, name)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(vocabulary.split)
        writer.add_token_list(tokens)
        types = dict.fromkeys(vocabulary.added, gguf.TokenType.USER_DEFINED)
        types |= dict.fromkeys([*tokenizer.special.values(), *ends], gguf.TokenType.CONTROL)
        writer.add_token_types([types.get(i, gguf.TokenType.NORMAL) for i in range(len(tokens))])
        writer.add_token_merges(vocabulary.merges)
        writer.add_add_bos_token(bool(tokenizer.begins))
        writer.add_bos_token_id([*tokenizer.begins, *ends][0])
        for which, token in zip(ENDS, ends, strict=False):
            writer.add_uint32(f"tokenizer.ggml.{which}_token_id", token)
        if tokenizer.template:
            writer.add_chat_template(tokenizer.template)
        writer.add_file_type(_file_type(dtype))
        for weight, array in arrays.items():
            kind = _type_of(weight, array, dtype)
            writer.add_tensor(weight, gguf.quants.quantize(array, kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _describe(writer: Any, c: GPTConfig, architecture: Architecture, name: str) -> None:
    writer.add_name(name)
    writer.add_context_length(c.context)
    writer.add_embedding_length(c.width)
    writer.add_block_count(c.layers)
    writer.add_feed_forward_length(c.hidden)
    writer.add_head_count(c.heads)
    writer.add_vocab_size(c.vocabulary)
    if architecture.name == "gpt2":
        writer.add_layer_norm_eps(c.norm_eps)
        return
    writer.add_head_count_kv(c.kv_heads)
    writer.add_key_length(c.head_size)
    writer.add_value_length(c.head_size)
    writer.add_layer_norm_rms_eps(c.norm_eps)
    writer.add_rope_dimension_count(c.head_size)
    writer.add_rope_freq_base(c.rope_theta)


def _to_llama_cpp(theirs: str, tensor: Tensor, c: GPTConfig, architecture: Architecture) -> Any:
    """A weight in llama.cpp's layout: GPT-2's matrices upright, and a Llama's channels in the order of its rotation."""
    if architecture.name == "gpt2" and ".h." in theirs and tensor.dim() == 2:
        tensor = tensor.T
    if architecture.name == "llama" and (".q_proj." in theirs or ".k_proj." in theirs):
        heads = c.heads if ".q_proj." in theirs else c.kv_heads
        tensor = tensor.reshape(heads, 2, c.head_size // 2, -1).transpose(1, 2).flatten(0, 2)
    return np.ascontiguousarray(tensor.numpy())


def _type_of(weight: str, array: Any, dtype: str) -> Any:
    """A weight's type in the file: only matrices become smaller, and only where blocks of 32 fill their rows."""
    import gguf

    kinds = gguf.GGMLQuantizationType
    if array.ndim < 2 or weight == "position_embd.weight" or dtype == "f32":
        return kinds.F32
    if dtype == "q8_0":
        return kinds.Q8_0 if array.shape[-1] % 32 == 0 else kinds.F32
    return {"f16": kinds.F16, "bf16": kinds.BF16}[dtype]


def _file_type(dtype: str) -> Any:
    import gguf

    kinds = gguf.LlamaFileType
    return {"f32": kinds.ALL_F32, "f16": kinds.MOSTLY_F16, "bf16": kinds.MOSTLY_BF16, "q8_0": kinds.MOSTLY_Q8_0}[dtype]


def read_gguf(path: Path) -> tuple[GPTConfig, Architecture, dict[str, Tensor], dict[str, Any]]:
    """A file's shape, its weights by Hugging Face's names in float32, and all its fields.

    Raises:
        InputError: the file is no GGUF, is damaged, is of an architecture that quoth does not know, or has a field or
            a tensor that the architecture does not have.
    """
    facts, there = read(path)
    kind = facts.get("general.architecture")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        raise InputError(f"{path} holds a model of the kind {short(kind)}; quoth knows {', '.join(ARCHITECTURES)}.")
    architecture = ARCHITECTURES[kind]
    c = _shape(Fields(facts, str(path)), kind, there)
    weights = {}
    names = {name: theirs for _, theirs, name in architecture.weights(c)}
    for name, theirs in names.items():
        if name not in there:
            raise InputError(f"{path} has no {name}, which a {kind} of this shape needs.")
        tensor = there[name]
        if tensor.shape and tensor.shape[0] % 2 and name.endswith(("attn_q.weight", "attn_k.weight")):
            raise InputError(f"{path} has {name} of {tensor.shape[0]} rows, which do not pair for a rotation.")
        weights[theirs] = _from_llama_cpp(theirs, torch.from_numpy(tensor.read()), c, architecture)
    if unread := there.keys() - names:
        raise InputError(f"{path} has {short(min(unread))}, which a {kind} of this shape has no place for.")
    return c, architecture, weights, facts


def _from_llama_cpp(theirs: str, tensor: Tensor, c: GPTConfig, architecture: Architecture) -> Tensor:
    """A weight in Hugging Face's layout."""
    if architecture.name == "gpt2" and ".h." in theirs and tensor.dim() == 2:
        return tensor.T
    if architecture.name == "llama" and (".q_proj." in theirs or ".k_proj." in theirs):
        heads = c.heads if ".q_proj." in theirs else c.kv_heads
        return tensor.reshape(heads, c.head_size // 2, 2, -1).transpose(1, 2).flatten(0, 2)
    return tensor


def _shape(fields: Fields, kind: str, there: Mapping[str, Any]) -> GPTConfig:
    """The shape that the fields describe; every field that may change what is computed must be known."""
    tokens = fields.needed("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not tokens:
        raise InputError("The field tokenizer.ggml.tokens is no list of tokens.")
    width, heads = fields.whole(f"{kind}.embedding_length"), fields.whole(f"{kind}.attention.head_count")
    common: dict[str, Any] = dict(
        vocabulary=len(tokens),
        context=fields.whole(f"{kind}.context_length", most=LONGEST_CONTEXT),
        width=width,
        layers=fields.whole(f"{kind}.block_count"),
        heads=heads,
        hidden=fields.whole(f"{kind}.feed_forward_length"),
        tied="output.weight" not in there,
    )
    for name, allowed in MUST_BE.items():
        fields.only(f"{kind}.{name}", *allowed)
    fields.only(f"{kind}.vocab_size", len(tokens))
    fields.only("general.type", "model")
    fields.only("split.count", 0, 1)
    if kind == "gpt2":
        fields.only(f"{kind}.attention.head_count_kv", heads)
        c = family("gpt2", **common, norm_eps=fields.positive(f"{kind}.attention.layer_norm_epsilon"))
    else:
        c = family(
            "modern",
            **common,
            kv_heads=fields.whole(f"{kind}.attention.head_count_kv", heads),
            head_size=fields.whole(f"{kind}.attention.key_length", max(1, width // heads)),
            norm_eps=fields.positive(f"{kind}.attention.layer_norm_rms_epsilon"),
            rope_theta=fields.positive(f"{kind}.rope.freq_base", 10_000.0),
            qk_norm=kind == "qwen3",
            bias_qkv=kind == "qwen2",
        )
        _check_rotation(fields, kind, c)
        if "rope_freqs.weight" in there:
            raise InputError("The model stretches its rotary positions (rope_freqs.weight), which quoth does not know.")
    fields.ignore(name for name in fields if not name.startswith(f"{kind}."))
    fields.finish()
    return c


def _check_rotation(fields: Fields, kind: str, c: GPTConfig) -> None:
    """Refuse rotary positions that are stretched, or that turn only some of the channels."""
    fields.only(f"{kind}.attention.value_length", c.head_size)
    fields.only(f"{kind}.rope.dimension_count", c.head_size)
    how, factors = fields.get(f"{kind}.rope.scaling.type"), ("rope.scaling.factor", "rope.scale_linear")
    if how not in (None, "none", "linear"):
        raise InputError(f"The model stretches its rotary positions ({plain(str(how))}), which quoth does not know.")
    for factor in factors:
        if how != "none":  # Without a type llama.cpp takes a factor for a linear one.
            fields.only(f"{kind}.{factor}", 0, 1)
    unused = ("original_context_length", "finetuned")
    fields.ignore([*(f"{kind}.{factor}" for factor in factors), *(f"{kind}.rope.scaling.{name}" for name in unused)])
