"""A model's weights as Hugging Face names and lays them, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from quoth.interop.architectures import Architecture
from quoth.model.config import GPTConfig
from quoth.system.errors import InputError

# Matrices that GPT-2 keeps as (inputs, outputs).
ON_THEIR_SIDES = (".qkv.weight", ".out.weight", ".up.weight", ".down.weight")


def exported(state: Mapping[str, Tensor], c: GPTConfig, architecture: Architecture) -> dict[str, Tensor]:
    """Weights in float32 by Hugging Face's names; what the architecture has no place for is folded into what it has.

    Raises:
        InputError: it cannot be.
    """
    ours = {name: tensor.detach().float().cpu() for name, tensor in state.items()}
    if architecture.name == "gpt2":
        ours = _as_gpt2(ours, c)
    return {theirs: ours[name].contiguous() for name, theirs, _ in architecture.weights(c)}


def imported(theirs: Mapping[str, Tensor], c: GPTConfig, architecture: Architecture) -> dict[str, Tensor]:
    """The state of a `GPT` from Hugging Face's weights.

    Raises:
        InputError: a weight is missing; one of another shape is found when the state is loaded.
    """
    bare = not any(name.startswith(("model.", "transformer.")) for name in theirs)  # Saved without its head.
    state: dict[str, Tensor] = {}
    for ours, name, _ in architecture.weights(c):
        name = name.removeprefix("model.").removeprefix("transformer.") if bare else name
        if name not in theirs:
            raise InputError(f"The weights have no {name}, which a {architecture.name} of this shape needs.")
        tensor = theirs[name].float()
        state[ours] = tensor.T if architecture.name == "gpt2" and ours.endswith(ON_THEIR_SIDES) else tensor
    if architecture.name == "gpt2":
        for layer in range(c.layers):
            for kind in ("weight", "bias"):
                parts = state.pop(f"blocks.{layer}.attention.qkv.{kind}").chunk(3)
                for part, tensor in zip(("query", "key", "value"), parts, strict=True):
                    state[f"blocks.{layer}.attention.{part}.{kind}"] = tensor
    if c.tied:
        state["head.weight"] = state["embed.weight"]
    return {name: tensor.contiguous() for name, tensor in state.items()}


def _as_gpt2(ours: dict[str, Tensor], c: GPTConfig) -> dict[str, Tensor]:
    """With every bias, queries, keys and values in one, matrices on their sides, and the head's bias folded."""
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
        made["norm.bias"] = made["norm.bias"] + _folded(made["head.weight" if not c.tied else "embed.weight"], bias)
    return {n: t.T if n.startswith("blocks.") and n.endswith(ON_THEIR_SIDES) else t for n, t in made.items()}


def _folded(head_VC: Tensor, bias_V: Tensor) -> Tensor:
    """What added before the head gives its bias after it: d with head d = bias."""
    d_C: Tensor = torch.linalg.lstsq(head_VC.double(), bias_V.double()[:, None], driver="gelsd").solution[:, 0]
    if not torch.allclose(head_VC.double() @ d_C, bias_V.double(), atol=1e-6):
        raise InputError(
            "The head's bias has no place in GPT-2, and with more tokens than channels it cannot be folded into the "
            "last norm; train a model with --bias-head false."
        )
    return d_C.float()
