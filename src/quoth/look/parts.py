"""Parts of a model that can be switched off: single heads, and a layer's whole attention or MLP."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from quoth.model.attention import Attention
from quoth.model.config import GPTConfig
from quoth.model.gpt import GPT, Block
from quoth.system.errors import InputError


@dataclass(frozen=True, order=True)
class Part:
    """A layer's attention or MLP, or one head of its attention; layers and heads are counted from 0.

    >>> str(Part(2, "attention", 1)), str(Part(0, "mlp"))
    ('2.attention.1', '0.mlp')
    """

    layer: int
    name: Literal["attention", "mlp"]
    head: int | None = None

    def __str__(self) -> str:
        return f"{self.layer}.{self.name}" + ("" if self.head is None else f".{self.head}")


def part_from(text: str, config: GPTConfig) -> Part:
    """The part of a model that a text names, as `str` writes it.

    Raises:
        InputError: the model has no such part.
    """
    layer, _, rest = text.partition(".")
    name, dot, head = rest.partition(".")
    numbers = [layer, head] if dot else [layer]
    if not all(one.isascii() and one.isdigit() for one in numbers) or name not in ("attention", "mlp"):
        raise InputError(f"A part is written as 0.attention, 0.attention.2 (a head) or 0.mlp, not {text[:40]!r}.")
    if int(layer) >= config.layers:
        raise InputError(f"There is no layer {layer}; the model has {config.layers}, counted from 0.")
    if dot and name == "mlp":
        raise InputError(f"An MLP has no heads; write {layer}.mlp.")
    if dot and int(head) >= config.heads:
        raise InputError(f"There is no head {head}; a layer has {config.heads}, counted from 0.")
    return Part(int(layer), "attention" if name == "attention" else "mlp", int(head) if dot else None)


def heads_of(config: GPTConfig) -> list[Part]:
    """Every head of every layer, in their order."""
    return [Part(layer, "attention", head) for layer in range(config.layers) for head in range(config.heads)]


def layers_of(model: GPT) -> list[Block]:
    """The model's blocks, if they are of the kind that can be looked into.

    Raises:
        InputError: a block has no attention and MLP of the usual kind.
    """
    found = [one for one in model.blocks if isinstance(one, Block) and isinstance(one.attention, Attention)]
    if len(found) < len(model.blocks):
        raise InputError(
            f"Only blocks with an attention and an MLP can be looked into, not {type(model.blocks[0]).__name__}."
        )
    return found


@contextmanager
def without(model: GPT, off_B: Sequence[Sequence[Part]], layers: range | None = None) -> Iterator[None]:
    """In it each row of a batch is computed without some parts: they add nothing to the residual stream.

    A head that is off hands zeros to the layer's output projection, whose bias stays. Given some `layers`, only parts
    in these are switched off.

    >>> with without(model, [[Part(0, "mlp")]]): model(token_BT[:1])           # doctest: +SKIP
    """
    with ExitStack() as stack:
        for layer, block in enumerate(layers_of(model)):
            if layers is not None and layer not in layers:
                continue
            off = [[part for part in parts if part.layer == layer] for parts in off_B]
            for name, module in (("attention", block.attention), ("mlp", block.mlp)):
                rows = [any(part.name == name and part.head is None for part in parts) for parts in off]
                if any(rows):
                    stack.callback(module.register_forward_hook(_nothing(rows)).remove)
            heads = model.config.heads
            absent = [[any(part.head == head for part in parts) for head in range(heads)] for parts in off]
            if any(map(any, absent)):
                out: nn.Module = block.attention.out
                stack.callback(out.register_forward_pre_hook(_no_heads(absent)).remove)
        yield


@torch.no_grad()
def silenced(model: GPT, off: Sequence[Part]) -> GPT:
    """A copy of a model whose weights let some parts add nothing, for engines that know no hooks; see `without`.

    Raises:
        InputError: the model's blocks are not of the usual kind.
    """
    model = copy.deepcopy(model)
    layers, K = layers_of(model), model.config.head_size
    for part in off:
        block = layers[part.layer]
        last: nn.Linear = block.attention.out if part.name == "attention" else block.mlp.down
        if part.head is not None:
            last.weight[:, part.head * K : (part.head + 1) * K] = 0
            continue
        last.weight.zero_()
        if last.bias is not None:
            last.bias.zero_()
    return model


def _nothing(rows: Sequence[bool]) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def hook(module: nn.Module, args: Any, y_BTC: Tensor) -> Tensor:
        return y_BTC.masked_fill(torch.tensor(rows, device=y_BTC.device)[:, None, None], 0)

    return hook


def _no_heads(absent: Sequence[Sequence[bool]]) -> Callable[[nn.Module, Any], tuple[Tensor]]:
    def hook(module: nn.Module, args: Any) -> tuple[Tensor]:
        (y_BTC,) = args
        absent_BH = torch.tensor(absent, device=y_BTC.device)
        y_BTHK = y_BTC.unflatten(-1, (absent_BH.shape[1], -1))
        return (y_BTHK.masked_fill(absent_BH[:, None, :, None], 0).flatten(-2),)

    return hook
