"""An encoder and an encoder–decoder, made from the decoder's parts."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from quoth.model.attention import Attention, CacheSlice
from quoth.model.config import GPTConfig
from quoth.model.gpt import GPT, Block
from quoth.model.layers import NORMS, Places


def encoder(config: GPTConfig) -> GPT:
    """A GPT whose tokens attend to later tokens too, so it can read a text but not generate one."""
    return GPT(config, block=partial(Block, causal=False))


class CrossBlock(Block):
    """A block that also attends to a source, between its self-attention and its MLP (Vaswani et al. 2017)."""

    def __init__(self, c: GPTConfig) -> None:
        super().__init__(c)
        self.cross_norm = NORMS[c.norm](c.width, c.norm_eps, c.bias)
        self.cross = Attention(c)

    def forward(
        self,
        x_BTC: Tensor,
        angles: tuple[Tensor, Tensor] | None = None,
        cache: CacheSlice | None = None,
        source_BSC: Tensor | None = None,
    ) -> Tensor:
        if source_BSC is None:
            raise ValueError("A CrossBlock needs a source.")
        x_BTC = x_BTC + self.dropout(self.attention(self.attention_norm(x_BTC), angles, cache))
        x_BTC = x_BTC + self.dropout(self.cross(self.cross_norm(x_BTC), source_BSC=source_BSC))
        return x_BTC + self.dropout(self.mlp(self.mlp_norm(x_BTC)))  # type: ignore[no-any-return]


class Seq2Seq(nn.Module):
    """An encoder, which reads a source of `source` tokens, and a decoder, which attends to the source and writes.

    Ids (B, S + T), the source and then the target so far → logits (B, T, V), for the target alone.

    >>> import torch
    >>> from quoth.model.config import family
    >>> model = Seq2Seq(family("modern", vocabulary=30, width=64, layers=2, context=16), source=12)
    >>> model(torch.zeros(1, 12 + 5, dtype=torch.long)).shape
    torch.Size([1, 5, 30])
    """

    def __init__(self, config: GPTConfig, source: int) -> None:
        super().__init__()
        self.source = source
        self.encoder = encoder(config.replace(context=source))
        self.encoder.head = nn.Identity()  # type: ignore[assignment]
        self.decoder = GPT(config, block=CrossBlock)

    def forward(self, token_BT: Tensor) -> Tensor:
        source_BS, target_BT = token_BT[:, : self.source], token_BT[:, self.source :]
        return self.decoder(target_BT, source_BSC=self.encoder(source_BS))  # type: ignore[no-any-return]

    def given(self, source_BS: Tensor) -> Conditioned:
        """The decoder, bound to the encoded sources; it generates like any other model."""
        return Conditioned(self.decoder, self.encoder(source_BS))


class Conditioned(nn.Module):
    """A decoder bound to the sources that it attends to: row b of a batch attends to source b."""

    def __init__(self, decoder: GPT, source_BSC: Tensor) -> None:
        super().__init__()
        self.decoder, self.source_BSC = decoder, source_BSC
        self.config, self.embed = decoder.config, decoder.embed

    def forward(self, token_BT: Tensor, caches: list[CacheSlice] | None = None, places: Places | None = None) -> Tensor:
        return self.decoder(token_BT, caches, places, self.source_BSC)  # type: ignore[no-any-return]
