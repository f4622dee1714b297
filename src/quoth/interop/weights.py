"""A model's weights as Hugging Face names and lays them, and back."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from quoth.model.architectures import Architecture
from quoth.model.config import GPTConfig
from quoth.system.errors import InputError, short

PREFIXES = ("model.", "transformer.")
# Tables that older files hold: rotary frequencies, and in GPT-2 the causal mask.
DERIVED = (
    re.compile(r"(model\.)?(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq"),
    re.compile(r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias"),
)
# Matrices that GPT-2 keeps as (inputs, outputs).
TRANSPOSED = (".qkv.weight", ".out.weight", ".up.weight", ".down.weight")


def to_hugging_face(state: Mapping[str, Tensor], c: GPTConfig, architecture: Architecture) -> dict[str, Tensor]:
    """Weights in float32 by Hugging Face's names; a head's bias that GPT-2 has no place for is folded into its norm.

    Raises:
        InputError: that bias cannot be folded.
    """
    ours = {name: tensor.detach().float().cpu() for name, tensor in state.items()}
    if architecture.name == "gpt2":
        ours = _as_gpt2(ours, c)
    return {theirs: ours[name].contiguous() for name, theirs, _ in architecture.weights(c)}


def from_hugging_face(weights: Mapping[str, Tensor], c: GPTConfig, architecture: Architecture) -> dict[str, Tensor]:
    """The state of a `GPT` from weights by Hugging Face's names.

    Raises:
        InputError: a weight is missing, holds no fractions, or has no place in the architecture.
    """
    bare = not any(name.startswith(PREFIXES) for name in weights)  # Saved without its head.
    state: dict[str, Tensor] = {}
    read = set()
    for ours, name, _ in architecture.weights(c):
        if bare:
            name = name.removeprefix("model.").removeprefix("transformer.")
        if name not in weights:
            raise InputError(f"The weights have no {name}, which a {architecture.name} of this shape needs.")
        if not weights[name].is_floating_point():
            raise InputError(f"The weight {name} is of {weights[name].dtype}, which quoth does not know.")
        read.add(name)
        tensor = weights[name].float()
        state[ours] = tensor.T if architecture.name == "gpt2" and ours.endswith(TRANSPOSED) else tensor
    _refuse_unread(weights, read, state["embed.weight"], architecture)
    if architecture.name == "gpt2":
        for layer in range(c.layers):
            for kind in ("weight", "bias"):
                parts = state.pop(f"blocks.{layer}.attention.qkv.{kind}").chunk(3)
                if len(parts) != 3:
                    raise InputError(f"The weight c_attn.{kind} of layer {layer} holds no queries, keys and values.")
                for part, tensor in zip(("query", "key", "value"), parts, strict=True):
                    state[f"blocks.{layer}.attention.{part}.{kind}"] = tensor
    if c.tied:
        state["head.weight"] = state["embed.weight"]
    return {name: tensor.contiguous() for name, tensor in state.items()}


def _refuse_unread(
    weights: Mapping[str, Tensor], read: Collection[str], embed_VC: Tensor, architecture: Architecture
) -> None:
    """Refuse weights that would be dropped, but for tables that follow from the config and a copy of tied weights."""
    for name in weights:
        if name in read or DERIVED[architecture.name == "gpt2"].fullmatch(name):
            continue
        if name == "lm_head.weight" and torch.equal(weights[name].float(), embed_VC):
            continue
        if name == "lm_head.weight":
            raise InputError("The model's embeddings are tied to its head, but lm_head.weight has other values.")
        raise InputError(f"The weights have {short(name)}, which a {architecture.name} of this shape has no place for.")


def _as_gpt2(ours: dict[str, Tensor], c: GPTConfig) -> dict[str, Tensor]:
    """The weights as GPT-2 has them: every bias, joined queries, keys and values, and transposed matrices."""
    made = dict(ours)
    zeros = {"norm": c.width, "out": c.width, "down": c.width, "up": c.hidden}
    names = [f"blocks.{layer}.{name}" for layer in range(c.layers) for name in ("attention_norm", "mlp_norm")]
    names += [f"blocks.{layer}.{name}" for layer in range(c.layers) for name in ("attention.out", "mlp.up", "mlp.down")]
    for name in [*names, "norm"]:
        size = zeros["norm" if name.endswith("norm") else name.rpartition(".")[2]]
        made.setdefault(f"{name}.bias", torch.zeros(size))
    for layer in range(c.layers):
        parts = [f"blocks.{layer}.attention.{part}" for part in ("query", "key", "value")]
        made[f"blocks.{layer}.attention.qkv.weight"] = torch.cat([made.pop(f"{part}.weight") for part in parts])
        made[f"blocks.{layer}.attention.qkv.bias"] = torch.cat(
            [made.pop(f"{part}.bias", torch.zeros(c.width)) for part in parts]
        )
    if (bias := made.pop("head.bias", None)) is not None:
        made["norm.bias"] = made["norm.bias"] + _fold_bias(made["head.weight" if not c.tied else "embed.weight"], bias)
    return {n: t.T if n.startswith("blocks.") and n.endswith(TRANSPOSED) else t for n, t in made.items()}


def _fold_bias(head_VC: Tensor, bias_V: Tensor) -> Tensor:
    """The vector d that, added before the head, gives its bias after it: head d = bias."""
    d_C: Tensor = torch.linalg.lstsq(head_VC.double(), bias_V.double()[:, None], driver="gelsd").solution[:, 0]
    if not torch.allclose(head_VC.double() @ d_C, bias_V.double(), atol=1e-6):
        raise InputError(
            "The head's bias has no place in GPT-2, and with more tokens than channels it cannot be folded into the "
            "last norm; train a model with --bias-head false."
        )
    return d_C.float()
