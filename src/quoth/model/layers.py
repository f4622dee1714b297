"""The parts from which a config chooses: norms, MLPs, positions and dropout; each choice is a class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quoth.model.config import GPTConfig
from quoth.system.errors import InputError

# Embedding tables up to this size are cheaper to multiply than to look up; see `Embedding`.
SMALL_VOCABULARY = 256


class Embedding(nn.Embedding):
    """An embedding table: ids (B, T) → their rows (B, T, C).

    The gradient of a look-up is added up row by row, which on a CPU took 6% of a small model's step. A product with
    one-hot rows has the same gradient, which takes next to no time if the table is small.
    """

    def forward(self, token_BT: Tensor) -> Tensor:
        if self.training and self.num_embeddings <= SMALL_VOCABULARY and token_BT.device.type == "cpu":
            return F.one_hot(token_BT, self.num_embeddings).to(self.weight.dtype) @ self.weight
        return super().forward(token_BT)


class RMSNorm(nn.Module):
    """x / rms(x), times a learned weight (Zhang & Sennrich 2019, arXiv:1910.07467). (..., C) → (..., C).

    The mean of squares is taken in at least float32, whatever the autocast type is.
    """

    def __init__(self, size: int, eps: float, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps) * self.weight).type_as(x)


class LayerNorm(nn.Module):
    """(x − mean) / √(variance + eps), times a weight, plus a bias (Ba et al. 2016, arXiv:1607.06450)."""

    def __init__(self, size: int, eps: float, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size)) if bias else None
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class NoNorm(nn.Module):
    """No norm: x is returned as it is."""

    def __init__(self, size: int, eps: float, bias: bool = False) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


class ReLU(nn.Module):
    """The lecture's MLP: C → 4C, ReLU, → C."""

    def __init__(self, c: GPTConfig) -> None:
        super().__init__()
        self.up = nn.Linear(c.width, c.hidden, bias=c.bias)
        self.down = nn.Linear(c.hidden, c.width, bias=c.bias)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.down(F.relu(self.up(x_BTC)))  # type: ignore[no-any-return]


class GELU(ReLU):
    """GPT-2's MLP: GELU in its tanh form (Hendrycks & Gimpel 2016, arXiv:1606.08415)."""

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x_BTC), approximate="tanh"))  # type: ignore[no-any-return]


def project(x_BTC: Tensor, *linears: nn.Linear) -> tuple[Tensor, ...]:
    """The outputs of several linear layers for one input; in training, one product with their stacked weights.

    In compiled code the stacking is part of the cast to bfloat16, and one larger product with its gradients is faster
    to run and to compile than several. Decoding reads each weight once anyway, so it stacks nothing. If a layer is more
    than its weights, such as one with an adapter, all the layers are called one by one.
    """
    stacks = linears[0].training and all(map(_is_only_weights, linears))
    if not stacks or len({linear.bias is None for linear in linears}) > 1:
        return tuple(linear(x_BTC) for linear in linears)
    bias = None if linears[0].bias is None else torch.cat([linear.bias for linear in linears])
    y_BTC = F.linear(x_BTC, torch.cat([linear.weight for linear in linears]), bias)
    return torch.split(y_BTC, [linear.out_features for linear in linears], dim=-1)


def _is_only_weights(module: nn.Module) -> bool:
    """Whether a module is a linear layer whose output depends on its weight and bias alone.

    A module that was replaced, or that `torch.nn.utils.parametrize` changed, is of another class.
    """
    return type(module) is nn.Linear and not is_overridden(module)


def is_overridden(module: nn.Module) -> bool:
    """Whether calling a module does something other than its class's `forward`."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or "forward" in module.__dict__


class SwiGLU(nn.Module):
    """The MLP down(silu(gate x) · up x) (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, c: GPTConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(c.width, c.hidden, bias=c.bias)
        self.up = nn.Linear(c.width, c.hidden, bias=c.bias)
        self.down = nn.Linear(c.hidden, c.width, bias=c.bias)

    def forward(self, x_BTC: Tensor) -> Tensor:
        gate_BTC, up_BTC = project(x_BTC, self.gate, self.up)
        return self.down(F.silu(gate_BTC) * up_BTC)  # type: ignore[no-any-return]


# The places of tokens in the window: one slice for all rows, or a tensor (B, T) with each row's own places.
Places = slice | Tensor


def _within(places: Places, context: int) -> Places:
    """The places, after a check that they are in the context: a longer slice of a table would silently be cut short.

    Raises:
        InputError: the slice ends beyond the context.
    """
    if isinstance(places, slice) and places.stop > context:
        raise InputError(f"The model reads {context} tokens at most, but was given {places.stop}.")
    return places


class LearnedPositions(nn.Module):
    """A vector for each place in the window, added to the token's."""

    def __init__(self, c: GPTConfig) -> None:
        super().__init__()
        self.context = c.context
        self.table = nn.Embedding(c.context, c.width)

    def add(self, x_BTC: Tensor, places: Places) -> Tensor:
        return x_BTC + self.table.weight[_within(places, self.context)]

    def angles(self, places: Places) -> tuple[Tensor, Tensor] | None:
        return None


class RotaryPositions(nn.Module):
    """RoPE (Su et al. 2021, arXiv:2104.09864) in the half-split form of GPT-NeoX, Llama and Qwen."""

    cos_TK: Tensor
    sin_TK: Tensor

    def __init__(self, c: GPTConfig) -> None:
        super().__init__()
        self.context, self.head_size, self.theta = c.context, c.head_size, c.rope_theta
        # These are tables, so that a compiled step loads the angles and does not compute a cosine for each element.
        for name, table_TK in zip(("cos_TK", "sin_TK"), self._tables(), strict=True):
            self.register_buffer(name, table_TK, persistent=False)

    def _tables(self, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
        device = device or torch.get_default_device()
        if device.type == "meta":  # There, even a product of nothing would import torch's compiler.
            table_TK = torch.empty(self.context, -(-self.head_size // 2), device=device)
            return table_TK, torch.empty_like(table_TK)
        exponent = torch.arange(0, self.head_size, 2, dtype=torch.float32, device=device) / self.head_size
        place_T = torch.arange(self.context, dtype=torch.float32, device=device)
        angle_TK = place_T[:, None] * self.theta**-exponent
        return angle_TK.cos(), angle_TK.sin()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the tables to another device, but keep them in float32: in bfloat16 neighbouring places share an angle.

        The tables are not saved, so they are computed again, which also is right for a model made by `to_empty`.
        """
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.cos_TK, self.sin_TK = self._tables(self.cos_TK.device)
        return self

    def add(self, x_BTC: Tensor, places: Places) -> Tensor:
        return x_BTC

    def angles(self, places: Places) -> tuple[Tensor, Tensor]:
        """cos and sin in float32, each (T, K/2), or (B, 1, T, K/2) if each row has its own places."""
        places = _within(places, self.context)
        cos, sin = self.cos_TK[places], self.sin_TK[places]
        return (cos, sin) if isinstance(places, slice) else (cos[:, None], sin[:, None])


class NoPositions(nn.Module):
    """No position encoding: only the causal mask tells the model where a token is."""

    def __init__(self, c: GPTConfig) -> None:
        super().__init__()

    def add(self, x_BTC: Tensor, places: Places) -> Tensor:
        return x_BTC

    def angles(self, places: Places) -> tuple[Tensor, Tensor] | None:
        return None


def rotate(x_BHTK: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate each pair (k, k + K/2) of channels by its angle; the pair's length does not change."""
    cos, sin = angles
    a, b = x_BHTK.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).type_as(x_BHTK)


class Dropout(nn.Module):
    """Set a share of the channels to zero in training and scale up the rest (Srivastava et al. 2014).

    Shape "channel" draws one mask per sequence, which is shared along time: on a CPU, drawing random numbers for each
    element takes longer than the model.
    """

    def __init__(self, c: GPTConfig) -> None:
        super().__init__()
        self.rate, self.shared = c.dropout, c.dropout_shape == "channel"

    def forward(self, x_BTC: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x_BTC
        if not self.shared:
            return F.dropout(x_BTC, self.rate)
        mask_B1C = torch.rand(x_BTC.shape[0], 1, x_BTC.shape[-1], device=x_BTC.device) >= self.rate
        return x_BTC * (mask_B1C.to(x_BTC.dtype) / (1 - self.rate))


NORMS: dict[str, type[RMSNorm] | type[LayerNorm] | type[NoNorm]] = {
    "rmsnorm": RMSNorm,
    "layernorm": LayerNorm,
    "none": NoNorm,
}
MLPS: dict[str, type[ReLU] | type[SwiGLU]] = {"relu": ReLU, "gelu": GELU, "swiglu": SwiGLU}
POSITIONS: dict[str, type[LearnedPositions] | type[RotaryPositions] | type[NoPositions]] = {
    "learned": LearnedPositions,
    "rope": RotaryPositions,
    "none": NoPositions,
}
