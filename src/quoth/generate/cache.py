"""The key/value cache: what attention has already made of the tokens so far."""

from __future__ import annotations

import torch
from torch import Tensor

from quoth.model.config import GPTConfig


class Cache:
    """Keys and values of every layer, in slots that each have room for a whole context.

    >>> cache = Cache(slots=2, config, torch.float32, torch.device("cpu"))  # doctest: +SKIP
    >>> cache.at(slice(0, 2), place_BT)                                     # doctest: +SKIP
    >>> model(token_BT, cache.layers, place_BT)                             # doctest: +SKIP
    """

    def __init__(self, slots: int, c: GPTConfig, dtype: torch.dtype, device: torch.device) -> None:
        # One place more than a context, where rows that are nobody's can be put.
        shape = (c.layers, slots, c.kv_heads, c.context + 1, c.head_size)
        self.k, self.v = (torch.zeros(shape, dtype=dtype, device=device) for _ in range(2))
        self.layers = [LayerCache(self, layer) for layer in range(c.layers)]

    def at(self, slots: slice, place_BT: Tensor, reach: int | None = None) -> None:
        """Say where the next keys and values belong: slot b's at the places (T,) of row b.

        Only the first `reach` places are read, if that is given; none beyond them may be asked for.
        """
        self.slots, self.places = slots, place_BT
        self.row_B1 = torch.arange(len(place_BT), device=place_BT.device)[:, None]
        self.reach = reach or self.k.shape[3] - 1
        seen = torch.arange(self.reach, device=place_BT.device) <= place_BT[..., None]
        self.visible_B1TS = seen[:, None]


class LayerCache:
    """One layer's share of a cache."""

    def __init__(self, cache: Cache, layer: int) -> None:
        self.cache, self.layer = cache, layer

    def extend(self, k_BHTK: Tensor, v_BHTK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Store new keys and values; return all that there are, (B, H, S, K), and which each query may see."""
        c = self.cache
        k, v = c.k[self.layer, c.slots], c.v[self.layer, c.slots]
        k[c.row_B1, :, c.places] = k_BHTK.transpose(1, 2)
        v[c.row_B1, :, c.places] = v_BHTK.transpose(1, 2)
        return k[:, :, : c.reach], v[:, :, : c.reach], c.visible_B1TS
