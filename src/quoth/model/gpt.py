"""The model, which turns token ids into logits. It does not know text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import sqrt
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from quoth.model.attention import Attention, CacheSlice
from quoth.model.config import GPTConfig
from quoth.model.layers import MLPS, NORMS, POSITIONS, Dropout, Embedding, Places
from quoth.model.lora import Base, LoRALinear
from quoth.model.meta import on_meta
from quoth.system.errors import InputError


class Block(nn.Module):
    """Attention and then an MLP; each reads a normed copy of the residual stream and adds its result to the stream."""

    def __init__(self, c: GPTConfig, *, causal: bool = True) -> None:
        super().__init__()
        self.attention_norm = NORMS[c.norm](c.width, c.norm_eps, c.bias)
        self.attention = Attention(c, causal=causal)
        self.mlp_norm = NORMS[c.norm](c.width, c.norm_eps, c.bias)
        self.mlp = MLPS[c.mlp](c)
        self.dropout = Dropout(c)

    def forward(
        self, x_BTC: Tensor, angles: tuple[Tensor, Tensor] | None = None, cache: CacheSlice | None = None
    ) -> Tensor:
        x_BTC = x_BTC + self.dropout(self.attention(self.attention_norm(x_BTC), angles, cache))
        return x_BTC + self.dropout(self.mlp(self.mlp_norm(x_BTC)))  # type: ignore[no-any-return]


class GPT(nn.Module):
    """A decoder-only Transformer: ids (B, T) → logits (B, T, V).

    `block` makes one layer from the config; it may be any module with the arguments of `Block.forward`.

    >>> import torch
    >>> from quoth.model.config import family
    >>> GPT(family("modern", vocabulary=65, width=64, layers=2))(torch.zeros(1, 8, dtype=torch.long)).shape
    torch.Size([1, 8, 65])
    """

    # What a checkpoint says that it holds; a class that is made of this one and computes something else says so.
    kind: ClassVar[str] = "language model"
    # The checkpoint that adapters were added to, if there are adapters and it is known.
    base: Base | None = None

    def __init__(self, config: GPTConfig, block: Callable[[GPTConfig], nn.Module] = Block) -> None:
        super().__init__()
        c = self.config = config
        self.block = block
        self.embed = Embedding(c.vocabulary, c.width)
        self.positions = POSITIONS[c.positions](c)
        self.dropout = Dropout(c)
        self.blocks = nn.ModuleList(block(c) for _ in range(c.layers))
        self.norm = NORMS[c.norm](c.width, c.norm_eps, c.bias)
        self.head = nn.Linear(c.width, c.vocabulary, bias=c.bias_head)
        INITIALIZATIONS[c.initialization](self)
        if c.tied:
            self.head.weight = self.embed.weight

    def forward(
        self,
        token_BT: Tensor,
        caches: Sequence[CacheSlice] | CacheSlice | None = None,
        places: Places | None = None,
        source_BSC: Tensor | None = None,
    ) -> Tensor:
        """The logits for every position, (B, T, V): the head applied to `hidden`, which documents the arguments."""
        return self.head(self.hidden(token_BT, caches, places, source_BSC))  # type: ignore[no-any-return]

    def hidden(
        self,
        token_BT: Tensor,
        caches: Sequence[CacheSlice] | CacheSlice | None = None,
        places: Places | None = None,
        source_BSC: Tensor | None = None,
    ) -> Tensor:
        """The input of the head: the normed residual stream after the last block, (B, T, C).

        `caches` has one cache for each layer, or is one that serves all, such as `Segments`; the ids then are at
        `places` of the window. A `source` is passed to every block, for blocks that attend to one.
        """
        places = slice(0, token_BT.shape[1]) if places is None else places
        x_BTC = self.dropout(self.positions.add(self.embed(token_BT), places))
        angles = self.positions.angles(places)
        for layer, block in enumerate(self.blocks):
            cache = caches[layer] if isinstance(caches, Sequence) else caches
            x_BTC = block(x_BTC, angles, cache) if source_BSC is None else block(x_BTC, angles, cache, source_BSC)
        return self.norm(x_BTC)  # type: ignore[no-any-return]

    @property
    def parameters_count(self) -> int:
        """The number of parameters, those of adapters included; tied weights count once."""
        return sum(p.numel() for p in self.parameters())


# The projections of attention, cross-attention and the MLP into the residual stream.
INTO_STREAM = (".out.weight", ".down.weight")


def _normal(model: GPT) -> None:
    """Initialize as GPT-2 does: N(0, 0.02), with projections into the residual stream divided by √(2 L).

    With 0.02, a wide head would start with clear preferences (and a tied one with predicting its own input), so the
    matrix that makes logits gets smaller values, which keep the logits' spread under 1/4.
    """
    logits = "embed.weight" if model.config.tied else "head.weight"
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(p)
        elif p.dim() == 2:
            projection = name.endswith(INTO_STREAM)
            std = 0.02 / sqrt(2 * model.config.layers) if projection else 0.02
            nn.init.normal_(p, std=min(0.02, 0.25 / sqrt(model.config.width)) if name == logits else std)


def _zero(model: GPT) -> None:
    """Make every block start as the identity and the first prediction uniform, so that early updates can be large.

    Inner weights are N(0, 1 / fan-in), so that each matrix starts near the unit spectral scale of Muon's steps.
    """
    c = model.config
    for name, p in model.named_parameters():
        if name.endswith(("bias", *INTO_STREAM)) or name == "head.weight":
            nn.init.zeros_(p)
        elif name == "embed.weight":
            nn.init.normal_(p, std=1 / c.width if c.tied else 1.0)
        elif p.dim() == 2:
            nn.init.normal_(p, std=1 / sqrt(p.shape[1]))


INITIALIZATIONS: dict[str, Callable[[GPT], None]] = {"normal": _normal, "zero": _zero, "torch": lambda model: None}


@lru_cache(maxsize=8)
def _described(config: GPTConfig) -> tuple[dict[str, type[nn.Module]], tuple[str, ...]]:
    """The types of the modules that a config makes, by name; and the names of its weights."""
    with on_meta():
        model = GPT(config)
    return {name: type(module) for name, module in model.named_modules()}, tuple(model.state_dict())


def replaced_parts(model: GPT) -> list[str]:
    """The names of modules that the config alone would not make, such as an adapter or another kind of block.

    A layer whose weight an adapter of `add_lora` or `torch.nn.utils.parametrize` computes is not one of them: the
    computed weight is its weight.
    """
    wanted, _ = _described(model.config)
    found = {
        name: nn.Linear if type(module) is LoRALinear else type_before_parametrizations(module)
        for name, module in model.named_modules()
        if ".parametrizations" not in name
    }
    return [name for name in {**wanted, **found} if found.get(name) is not wanted.get(name)]


def effective_weights(model: GPT) -> dict[str, Tensor]:
    """The weights that a model computes with, adapters included, by the names that its config gives them.

    Raises:
        InputError: the model has parts that its config does not describe.
    """
    if replaced := replaced_parts(model):
        raise InputError(
            f"The model's {replaced[0]} is not the part that its config describes; merge what was put around the part "
            "into its weights first."
        )
    _, names = _described(model.config)
    parts = ((name, *name.rpartition(".")[::2]) for name in names)
    return {name: getattr(model.get_submodule(module), weight).detach() for name, module, weight in parts}
