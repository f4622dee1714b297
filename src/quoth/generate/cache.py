"""The key/value cache: what attention has already made of the tokens so far."""

from __future__ import annotations

import torch
from torch import Tensor

from quoth.model.config import GPTConfig


class LayerCache:
    """Keys and values of one layer, (B, H, T, K), in room for a whole context."""

    def __init__(self, batch: int, c: GPTConfig, dtype: torch.dtype, device: torch.device) -> None:
        shape = (batch, c.kv_heads, c.context, c.head_size)
        self.k, self.v = (torch.empty(shape, dtype=dtype, device=device) for _ in range(2))
        self.length = 0

    def extend(self, k_BHTK: Tensor, v_BHTK: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values; return all that there are."""
        start, self.length = self.length, self.length + k_BHTK.shape[2]
        self.k[:, :, start : self.length] = k_BHTK
        self.v[:, :, start : self.length] = v_BHTK
        return self.k[:, :, : self.length], self.v[:, :, : self.length]


def make_caches(batch: int, c: GPTConfig, dtype: torch.dtype, device: torch.device) -> list[LayerCache]:
    """An empty cache, one slice a layer."""
    return [LayerCache(batch, c, dtype, device) for _ in range(c.layers)]
