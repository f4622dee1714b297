"""The config of a GPT: one frozen record of its shape and parts, and the families, which are sets of values for it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from quoth.system.errors import InputError, suggestion


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """The complete shape and parts of a GPT: everything that `GPT(config)` needs, and nothing else.

    Attributes:
        family: the family that gives the values which are not set: lecture, gpt2 or modern.
        vocabulary: V, the number of different tokens.
        context: T, the number of tokens in the longest window that the model reads.
        layers: L, the number of blocks; 0 makes a model without blocks.
        width: C, the number of channels of the residual stream.
        heads: H, the number of attention heads.
        kv_heads: the number of key and value heads; fewer than `heads` is grouped-query attention.
        head_size: K, the number of channels of a head.
        hidden: the number of channels inside a block's MLP.
        norm: the kind of norm: layernorm, rmsnorm or none.
        norm_eps: a small number that a norm adds to the variance.
        mlp: the kind of MLP: relu, gelu (GPT-2's tanh form) or swiglu.
        positions: the kind of position encoding: learned, rope or none.
        rope_theta: the base of the rotary frequencies.
        qk_norm: whether RMSNorm is applied to each head's queries and keys, before the rotation.
        bias_qkv: whether the query, key and value projections have biases.
        bias: whether the other projections and layernorm have biases.
        bias_head: whether the output head has a bias.
        tied: whether the output head shares the weights of the token embedding.
        dropout: the probability that a channel is dropped in training; 0 drops none.
        dropout_shape: element draws for each position; channel draws once per sequence, which is nearly free on a CPU.
        initialization: normal (GPT-2's), zero (residual projections and head are zero) or torch (PyTorch's defaults).

    >>> family("modern", vocabulary=65, width=128, layers=4).head_size
    64
    """

    family: str
    vocabulary: int
    context: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    hidden: int
    norm: Literal["layernorm", "rmsnorm", "none"]
    norm_eps: float
    mlp: Literal["relu", "gelu", "swiglu"]
    positions: Literal["learned", "rope", "none"]
    rope_theta: float
    qk_norm: bool
    bias_qkv: bool
    bias: bool
    bias_head: bool
    tied: bool
    dropout: float
    dropout_shape: Literal["element", "channel"]
    initialization: Literal["normal", "zero", "torch"]

    def __post_init__(self) -> None:
        for name in ("vocabulary", "context", "width", "heads", "kv_heads", "head_size", "hidden"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.layers < 0:
            raise InputError(f"layers must be 0 or more, not {self.layers}.")
        if self.heads % self.kv_heads:
            raise InputError(f"kv_heads must divide heads, but {self.kv_heads} does not divide {self.heads}.")
        if self.positions == "rope" and self.head_size % 2:
            raise InputError(f"rotary positions need an even head_size, not {self.head_size}.")
        if not (self.norm_eps >= 0 and self.rope_theta > 0):
            raise InputError(
                f"norm_eps must be 0 or more and rope_theta more than 0, not {self.norm_eps:g} and {self.rope_theta:g}."
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout must lie in [0, 1), not {self.dropout}.")
        for field, allowed in CHOICES.items():
            if getattr(self, field) not in allowed:
                raise InputError(f"{field} must be one of {', '.join(allowed)}, not {getattr(self, field)!r}.")

    def replace(self, **changes: Any) -> GPTConfig:
        """A copy with some values changed."""
        return dataclasses.replace(self, **changes)


CHOICES = {
    "norm": ("layernorm", "rmsnorm", "none"),
    "mlp": ("relu", "gelu", "swiglu"),
    "positions": ("learned", "rope", "none"),
    "dropout_shape": ("element", "channel"),
    "initialization": ("normal", "zero", "torch"),
}

# lecture: the final script of "Let's build GPT": pre-norm, ReLU, and an untied head with a bias.
# gpt2: Radford et al. 2019. modern: the shape of Qwen3 (arXiv:2505.09388), so that other programs run its checkpoints.
FAMILIES: dict[str, dict[str, Any]] = {
    "lecture": dict(
        context=256, layers=6, width=384, heads=6, norm="layernorm", norm_eps=1e-5, mlp="relu", positions="learned",
        rope_theta=10_000.0, qk_norm=False, bias_qkv=False, bias=True, bias_head=True, tied=False, dropout=0.2,
        dropout_shape="element", initialization="normal",
    ),
    "gpt2": dict(
        context=1024, layers=12, width=768, heads=12, norm="layernorm", norm_eps=1e-5, mlp="gelu", positions="learned",
        rope_theta=10_000.0, qk_norm=False, bias_qkv=True, bias=True, bias_head=False, tied=True, dropout=0.0,
        dropout_shape="element", initialization="normal",
    ),
    "modern": dict(
        context=256, layers=6, width=256, norm="rmsnorm", norm_eps=1e-6, mlp="swiglu", positions="rope",
        rope_theta=10_000.0, qk_norm=True, bias_qkv=False, bias=False, bias_head=False, tied=False, dropout=0.0,
        dropout_shape="channel", initialization="zero",
    ),
}  # fmt: skip


def family(name: str, *, vocabulary: int, **given: Any) -> GPTConfig:
    """A complete config: given values come first, then the family's values, then values that follow from the width.

    Without `heads`, a family's own width has the family's heads, and another width has heads of 64 channels. `hidden`
    is 4 C, or for swiglu 8/3 C rounded to a multiple of 32, which costs the same (Shazeer 2020, arXiv:2002.05202).

    Raises:
        InputError: the family or a field is unknown, or the shape is impossible.
    """
    if name not in FAMILIES:
        raise InputError(f"There is no model family {name!r}{suggestion(name, FAMILIES)}.")
    known = {field.name for field in dataclasses.fields(GPTConfig)}
    for key in given:
        if key not in known:
            raise InputError(f"A model has no setting {key!r}{suggestion(key, known)}.")
    values = {**FAMILIES[name], **given}
    width = values["width"]
    if "heads" not in given and width != FAMILIES[name]["width"]:
        values.pop("heads", None)
    if "heads" not in values:
        values["heads"] = width // max(1, values["head_size"]) if "head_size" in values else max(1, round(width / 64))
    if "head_size" not in values:
        if values["heads"] < 1 or width % values["heads"]:
            raise InputError(f"heads must divide width, but {values['heads']} does not divide {width}.")
        values["head_size"] = width // values["heads"]
    values.setdefault("kv_heads", values["heads"])
    values.setdefault("hidden", 32 * max(1, round(8 * width / 3 / 32)) if values["mlp"] == "swiglu" else 4 * width)
    return GPTConfig(family=name, vocabulary=vocabulary, **values)
