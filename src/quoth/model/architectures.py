"""The architectures of other programs that a model may be an instance of, and the names of its weights there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from quoth.model.config import GPTConfig
from quoth.system.errors import InputError


@dataclass(frozen=True)
class Architecture:
    """A shape of model that other programs run.

    Attributes:
        name: as Hugging Face and llama.cpp call it.
        model: the class of Hugging Face's transformers.
        names: the names of its weights, as (quoth's, Hugging Face's, llama.cpp's); `{}` stands for the layer.
    """

    name: str
    model: str
    names: tuple[tuple[str, str, str], ...]

    def weights(self, c: GPTConfig) -> Iterator[tuple[str, str, str]]:
        """The names of every weight of a model of this shape: quoth's, Hugging Face's and llama.cpp's."""
        for ours, hugging_face, llama_cpp in self.names:
            if ours == "head.weight" and c.tied:
                continue
            layers = range(c.layers) if "{}" in ours else range(1)
            for layer in layers:
                yield ours.format(layer), hugging_face.format(layer), llama_cpp.format(layer)


_AROUND_LAYERS = (
    ("embed.weight", "model.embed_tokens.weight", "token_embd.weight"),
    ("norm.weight", "model.norm.weight", "output_norm.weight"),
    ("head.weight", "lm_head.weight", "output.weight"),
)
_IN_LAYER = (
    ("attention_norm.weight", "input_layernorm.weight", "attn_norm.weight"),
    ("attention.query.weight", "self_attn.q_proj.weight", "attn_q.weight"),
    ("attention.key.weight", "self_attn.k_proj.weight", "attn_k.weight"),
    ("attention.value.weight", "self_attn.v_proj.weight", "attn_v.weight"),
    ("attention.out.weight", "self_attn.o_proj.weight", "attn_output.weight"),
    ("mlp_norm.weight", "post_attention_layernorm.weight", "ffn_norm.weight"),
    ("mlp.gate.weight", "mlp.gate_proj.weight", "ffn_gate.weight"),
    ("mlp.up.weight", "mlp.up_proj.weight", "ffn_up.weight"),
    ("mlp.down.weight", "mlp.down_proj.weight", "ffn_down.weight"),
)
_QK_NORM = (
    ("attention.query_norm.weight", "self_attn.q_norm.weight", "attn_q_norm.weight"),
    ("attention.key_norm.weight", "self_attn.k_norm.weight", "attn_k_norm.weight"),
)
_QKV_BIAS = (
    ("attention.query.bias", "self_attn.q_proj.bias", "attn_q.bias"),
    ("attention.key.bias", "self_attn.k_proj.bias", "attn_k.bias"),
    ("attention.value.bias", "self_attn.v_proj.bias", "attn_v.bias"),
)
# Queries, keys and values are one matrix in GPT-2, and Hugging Face keeps its matrices transposed.
_GPT2 = tuple(
    (f"{ours}.{kind}", f"{hugging_face}.{kind}", f"{llama_cpp}.{kind}")
    for ours, hugging_face, llama_cpp in (
        ("blocks.{}.attention_norm", "transformer.h.{}.ln_1", "blk.{}.attn_norm"),
        ("blocks.{}.attention.qkv", "transformer.h.{}.attn.c_attn", "blk.{}.attn_qkv"),
        ("blocks.{}.attention.out", "transformer.h.{}.attn.c_proj", "blk.{}.attn_output"),
        ("blocks.{}.mlp_norm", "transformer.h.{}.ln_2", "blk.{}.ffn_norm"),
        ("blocks.{}.mlp.up", "transformer.h.{}.mlp.c_fc", "blk.{}.ffn_up"),
        ("blocks.{}.mlp.down", "transformer.h.{}.mlp.c_proj", "blk.{}.ffn_down"),
        ("norm", "transformer.ln_f", "output_norm"),
    )
    for kind in ("weight", "bias")
)


def _layers(*groups: tuple[tuple[str, str, str], ...]) -> tuple[tuple[str, str, str], ...]:
    inside = tuple((f"blocks.{{}}.{a}", f"model.layers.{{}}.{b}", f"blk.{{}}.{c}") for g in groups for a, b, c in g)
    return _AROUND_LAYERS + inside


ARCHITECTURES = {
    one.name: one
    for one in (
        Architecture("qwen3", "Qwen3ForCausalLM", _layers(_IN_LAYER, _QK_NORM)),
        Architecture("qwen2", "Qwen2ForCausalLM", _layers(_IN_LAYER, _QKV_BIAS)),
        Architecture("llama", "LlamaForCausalLM", _layers(_IN_LAYER)),
        Architecture(
            "gpt2",
            "GPT2LMHeadModel",
            (
                ("embed.weight", "transformer.wte.weight", "token_embd.weight"),
                ("positions.table.weight", "transformer.wpe.weight", "position_embd.weight"),
                ("head.weight", "lm_head.weight", "output.weight"),
                *_GPT2,
            ),
        ),
    )
}


def architecture_of(c: GPTConfig) -> Architecture:
    """The architecture that a model is an instance of.

    Raises:
        InputError: the model is an instance of none; the message says which part does not fit, and what would.
    """
    if c.positions == "rope":
        asks = {"norm": "rmsnorm", "mlp": "swiglu", "bias": False, "bias_head": False}
        kin = "A model with rotary positions (as Qwen3, Qwen2 or Llama)"
    elif c.positions == "learned":
        asks = {"norm": "layernorm", "kv_heads": c.heads, "qk_norm": False, "width": c.heads * c.head_size}
        kin = "A model with learned positions (as GPT-2)"
    else:
        raise InputError("A model without positions runs nowhere else; train one with --positions rope or learned.")
    for part, fits in asks.items():
        if getattr(c, part) != fits:
            flag, value = part.replace("_", "-"), str(fits).lower()
            raise InputError(
                f"{kin} can be exported with --{flag} {value} only, and this one has {getattr(c, part)}; train one "
                "with that, or in the modern or gpt2 family."
            )
    if c.positions == "learned":
        return ARCHITECTURES["gpt2"]
    if c.qk_norm and c.bias_qkv:
        raise InputError("--qk-norm true with --bias-qkv true runs nowhere else; train a model with one of them.")
    return ARCHITECTURES["qwen3" if c.qk_norm else "qwen2" if c.bias_qkv else "llama"]
