"""Models as llama.cpp and Ollama keep them: one GGUF file, written and read by the package gguf."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quoth.interop.architectures import ARCHITECTURES, Architecture
from quoth.interop.vocabulary import as_byte_level
from quoth.model.config import GPTConfig, family
from quoth.system.errors import InputError
from quoth.system.files import writing
from quoth.text.tokenizer import Tokenizer

# The token that ends an answer, where a tokenizer has none: llama.cpp would take number 11 for it.
END = "<|endoftext|>"


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
    """Write a file whose weights, by Hugging Face's names, are of a type: f32, bf16, f16 or q8_0.

    Where a tokenizer has no token that ends answers, one is added which is as likely as the token `end`.

    Raises:
        InputError: llama.cpp does not know such a model, or the file may not be written.
    """
    import gguf

    if c.mlp == "relu":
        raise InputError(
            "llama.cpp's GPT-2 has GELU, not ReLU; export to hf, or train with --mlp gelu or --preset gpt2."
        )
    named = {theirs: llama_cpp for _, theirs, llama_cpp in architecture.weights(c)}
    arrays = {named[theirs]: _laid(theirs, tensor, c, architecture) for theirs, tensor in weights.items()}
    tokens, merges, split = as_byte_level(tokenizer)
    ends = list(tokenizer.ends)
    if end is not None:
        ends = [len(tokens)]
        tokens = [*tokens, END]
        for weight in {"token_embd.weight", "output.weight"} & arrays.keys():
            arrays[weight] = np.concatenate((arrays[weight], arrays[weight][end : end + 1]))
    with writing(path):
        writer = gguf.GGUFWriter(path, architecture.name)
        _describe(writer, c.replace(vocabulary=len(tokens)), architecture, name)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(split)
        writer.add_token_list(tokens)
        special = {*tokenizer.special.values(), *ends}
        writer.add_token_types(
            [gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for i in range(len(tokens))]
        )
        writer.add_token_merges(merges)
        writer.add_add_bos_token(bool(tokenizer.begins))
        writer.add_bos_token_id([*tokenizer.begins, *ends][0])
        writer.add_eos_token_id(ends[0])
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


def _laid(theirs: str, tensor: Tensor, c: GPTConfig, architecture: Architecture) -> Any:
    """A weight as llama.cpp lays it: matrices upright, and a Llama's channels in the order of its rotation."""
    if architecture.name == "gpt2" and ".h." in theirs and tensor.dim() == 2:
        tensor = tensor.T
    if architecture.name == "llama" and (".q_proj." in theirs or ".k_proj." in theirs):
        heads = c.heads if ".q_proj." in theirs else c.kv_heads
        tensor = tensor.reshape(heads, 2, c.head_size // 2, -1).transpose(1, 2).flatten(0, 2)
    return np.ascontiguousarray(tensor.numpy())


def _type_of(weight: str, array: Any, dtype: str) -> Any:
    """A weight's type: only matrices are made smaller, and only where blocks of 32 fill their rows."""
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
    """A file's shape, its weights by Hugging Face's names in float32, and its other facts.

    Raises:
        InputError: it is no GGUF, is damaged, or of an architecture that quoth does not know.
    """
    import gguf

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            reader = gguf.GGUFReader(path)
        facts = {name: field.contents() for name, field in reader.fields.items()}
    except Exception as error:  # The package raises what comes.
        raise InputError(f"{path} cannot be read as GGUF: {error or type(error).__name__}.") from error
    kind = facts.get("general.architecture")
    if kind not in ARCHITECTURES:
        raise InputError(f"{path} holds a model of the kind {kind!r}; quoth knows {', '.join(ARCHITECTURES)}.")
    architecture, there = ARCHITECTURES[kind], {tensor.name: tensor for tensor in reader.tensors}
    try:
        c = _shape(facts, kind, there)
    except KeyError as error:
        raise InputError(f"{path} says nothing of {error.args[0]}.") from error
    weights = {}
    for _, theirs, name in architecture.weights(c):
        if name not in there:
            raise InputError(f"{path} has no {name}, which a {kind} of this shape needs.")
        tensor = there[name]
        try:
            array = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        except Exception as error:
            raise InputError(f"{path} keeps {name} in a form that cannot be read: {error}.") from error
        weights[theirs] = _unlaid(theirs, torch.from_numpy(np.array(array, dtype=np.float32)), c, architecture)
    return c, architecture, weights, facts


def _unlaid(theirs: str, tensor: Tensor, c: GPTConfig, architecture: Architecture) -> Tensor:
    if architecture.name == "gpt2" and ".h." in theirs and tensor.dim() == 2:
        return tensor.T
    if architecture.name == "llama" and (".q_proj." in theirs or ".k_proj." in theirs):
        heads = c.heads if ".q_proj." in theirs else c.kv_heads
        return tensor.reshape(heads, c.head_size // 2, 2, -1).transpose(1, 2).flatten(0, 2)
    return tensor


def _shape(facts: Mapping[str, Any], kind: str, there: Mapping[str, Any]) -> GPTConfig:
    def fact(name: str) -> Any:
        return facts[f"{kind}.{name}"]

    width, heads = fact("embedding_length"), fact("attention.head_count")
    common: dict[str, Any] = dict(
        vocabulary=len(facts["tokenizer.ggml.tokens"]),
        context=fact("context_length"),
        width=width,
        layers=fact("block_count"),
        heads=heads,
        hidden=fact("feed_forward_length"),
        tied="output.weight" not in there,
    )
    if kind == "gpt2":
        return family("gpt2", **common, norm_eps=fact("attention.layer_norm_epsilon"))
    if facts.get(f"{kind}.rope.scaling.type", "none") != "none" or "rope_freqs.weight" in there:
        raise InputError("The model stretches its rotary positions, which quoth does not know.")
    return family(
        "modern",
        **common,
        kv_heads=facts.get(f"{kind}.attention.head_count_kv", heads),
        head_size=facts.get(f"{kind}.attention.key_length") or width // heads,
        norm_eps=fact("attention.layer_norm_rms_epsilon"),
        rope_theta=float(facts.get(f"{kind}.rope.freq_base", 10_000.0)),
        qk_norm=kind == "qwen3",
        bias_qkv=kind == "qwen2",
    )
