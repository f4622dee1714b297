"""Attention: `attend` is its mathematics, and the module `Attention` makes the queries, keys and values for it."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quoth.model.config import GPTConfig
from quoth.model.layers import NORMS, project, rotate

# From this window on, the fused kernel trains faster on a CPU: 302 against 323 ms a step; at 256 it took 276 for 244.
LONG_WINDOW = 512


class CacheSlice(Protocol):
    """One layer's share of a key/value cache."""

    def extend(self, k_BHTK: Tensor, v_BHTK: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Store the new keys and values; return all keys and values, old and new, along S.

        Also return which of them each query may see, (B, 1, T, S), or None if a query sees those up to its own place.
        """
        ...


def attend(
    q_BHTK: Tensor,
    k_BHSK: Tensor,
    v_BHSK: Tensor,
    *,
    causal: bool = True,
    visible: Tensor | None = None,
    dropout: float = 0.0,
    fused: bool = False,
) -> Tensor:
    """softmax(q kᵀ / √K) v (Vaswani et al. 2017, arXiv:1706.03762). (B, H, T, K) → (B, H, T, K).

    Queries are the *last* T of S positions. With `causal`, query t sees keys up to S − T + t, unless `visible` says
    which it may see. The softmax is taken in at least float32. `fused` uses torch's flash or memory-efficient kernel;
    on a CPU its backward pass is slow for short windows, so training there uses the plain formula. Tests check that
    both agree.

    >>> attend(torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 4), torch.eye(2, 4)[None, None])[0, 0, 1, :2]
    tensor([0.5000, 0.5000])
    """
    v_BHSK = _for_each(q_BHTK.shape[1], v_BHSK)
    if fused:
        k_BHSK = _for_each(q_BHTK.shape[1], k_BHSK)
        T, S = q_BHTK.shape[-2], k_BHSK.shape[-2]
        if visible is None and causal and T != S:
            visible = _visible(T, S, q_BHTK.device)
        return F.scaled_dot_product_attention(
            q_BHTK, k_BHSK, v_BHSK, attn_mask=visible, is_causal=causal and visible is None, dropout_p=dropout
        )
    weight_BHTS = attention_weights(q_BHTK, k_BHSK, causal=causal, visible=visible).type_as(v_BHSK)
    if dropout:
        weight_BHTS = F.dropout(weight_BHTS, dropout)
    return weight_BHTS @ v_BHSK


def attention_weights(q_BHTK: Tensor, k_BHSK: Tensor, *, causal: bool = True, visible: Tensor | None = None) -> Tensor:
    """How much each query attends to each key: softmax(q kᵀ / √K), (B, H, T, S); each row sums to 1.

    If no key is `visible` to a query, its row is 0.
    """
    T, S, K = q_BHTK.shape[-2], k_BHSK.shape[-2], q_BHTK.shape[-1]
    score_BHTS: Tensor = q_BHTK @ _for_each(q_BHTK.shape[1], k_BHSK).mT * K**-0.5
    if score_BHTS.dtype != torch.float64:
        score_BHTS = score_BHTS.float()
    if visible is not None:
        # A row of nothing but −∞ would give NaN, in the gradients too, so the least finite number is used.
        score_BHTS = score_BHTS.masked_fill(~visible, torch.finfo(score_BHTS.dtype).min)
        return score_BHTS.softmax(-1).masked_fill(~visible, 0.0)
    if causal:
        score_BHTS = score_BHTS.masked_fill(~_visible(T, S, q_BHTK.device), -torch.inf)
    return score_BHTS.softmax(-1)


def _for_each(heads: int, x_BHSK: Tensor) -> Tensor:
    """Keys or values repeated for each query head, since a group of query heads shares one key/value head."""
    group = heads // x_BHSK.shape[1]
    return x_BHSK if group == 1 else x_BHSK.repeat_interleave(group, dim=1)


def _visible(T: int, S: int, device: torch.device) -> Tensor:
    """Which of S keys each of the last T queries may see: (T, S), true where the query sees the key."""
    query_T = torch.arange(S - T, S, device=device)
    return query_T[:, None] >= torch.arange(S, device=device)


# The segment of what all texts of a row begin with.
SHARED = -1


class Segments:
    """What attention sees where a row holds several texts one after the other: each token sees its own text alone.

    It stands where a cache would, and keeps nothing. `segment_BT` gives each text a number of its own, and
    `places_BT` are the places within each text, which all begin at 0. A row may begin with tokens of the segment
    SHARED: these are the beginning of each of its texts, which see them, and whose places go on after them.

    >>> Segments(torch.tensor([[0, 0, 1]])).places_BT, Segments(torch.tensor([[0, 0, 1]])).visible_B1TT[0, 0].int()
    (tensor([[0, 1, 0]]), tensor([[1, 0, 0],
            [1, 1, 0],
            [0, 0, 1]], dtype=torch.int32))
    """

    def __init__(self, segment_BT: Tensor) -> None:
        T, device = segment_BT.shape[1], segment_BT.device
        same_BTT = segment_BT[:, :, None] == segment_BT[:, None, :]
        self.shared_BT = segment_BT == SHARED
        self.visible_B1TT = ((same_BTT | self.shared_BT[:, None, :]) & _visible(T, T, device))[:, None]
        place_T = torch.arange(T, device=device)
        begins_BT = torch.ones_like(segment_BT, dtype=torch.bool)
        begins_BT[:, 1:] = segment_BT[:, 1:] != segment_BT[:, :-1]
        self.begin_BT = torch.where(begins_BT, place_T, 0).cummax(1).values
        before_B1 = self.shared_BT.sum(1, keepdim=True)
        self.places_BT = place_T - self.begin_BT + torch.where(self.shared_BT, 0, before_B1)

    def extend(self, k_BHTK: Tensor, v_BHTK: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The same keys and values, and which of them each query may see."""
        return k_BHTK, v_BHTK, self.visible_B1TT


class Attention(nn.Module):
    """Multi-head attention, with grouped key/value heads, QK-norm and rotation if the config has them.

    x attends to itself; or, given a `source` (B, S, C), it attends to the whole source, which is cross-attention.
    """

    def __init__(self, c: GPTConfig, *, causal: bool = True) -> None:
        super().__init__()
        self.query = nn.Linear(c.width, c.heads * c.head_size, bias=c.bias_qkv)
        self.key = nn.Linear(c.width, c.kv_heads * c.head_size, bias=c.bias_qkv)
        self.value = nn.Linear(c.width, c.kv_heads * c.head_size, bias=c.bias_qkv)
        self.out = nn.Linear(c.heads * c.head_size, c.width, bias=c.bias)
        self.query_norm: nn.Module = NORMS["rmsnorm"](c.head_size, c.norm_eps) if c.qk_norm else nn.Identity()
        self.key_norm: nn.Module = NORMS["rmsnorm"](c.head_size, c.norm_eps) if c.qk_norm else nn.Identity()
        self.head_size, self.causal = c.head_size, causal
        # A mask shared along time would drop whole heads, so only elementwise dropout drops weights, as GPT-2 does.
        self.dropout = c.dropout if c.dropout_shape == "element" else 0.0
        self.fused: bool | None = None

    def forward(
        self,
        x_BTC: Tensor,
        angles: tuple[Tensor, Tensor] | None = None,
        cache: CacheSlice | None = None,
        source_BSC: Tensor | None = None,
    ) -> Tensor:
        q_BHTK, k_BHTK, v_BHTK = self.queries_keys_values(x_BTC, angles, source_BSC)
        visible = None
        if cache is not None:
            k_BHTK, v_BHTK, visible = cache.extend(k_BHTK, v_BHTK)
        y_BHTK = attend(
            q_BHTK,
            k_BHTK,
            v_BHTK,
            causal=self.causal and source_BSC is None,
            visible=visible,
            dropout=self.dropout if self.training else 0.0,
            fused=prefer_fused(x_BTC, self.training) if self.fused is None else self.fused,
        )
        return self.out(y_BHTK.transpose(1, 2).flatten(-2))  # type: ignore[no-any-return]

    def queries_keys_values(
        self, x_BTC: Tensor, angles: tuple[Tensor, Tensor] | None = None, source_BSC: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (B, H, T, K), or (B, H, S, K) for keys and values of a source.

        Queries and keys are normed and rotated if the config says so.
        """
        if source_BSC is None:
            projected = project(x_BTC, self.query, self.key, self.value)
        else:
            projected = (self.query(x_BTC), *project(source_BSC, self.key, self.value))
        q_BHTK, k_BHTK, v_BHTK = (
            y_BTC.reshape(*y_BTC.shape[:-1], -1, self.head_size).transpose(1, 2) for y_BTC in projected
        )
        q_BHTK, k_BHTK = self.query_norm(q_BHTK), self.key_norm(k_BHTK)
        if angles is not None:
            q_BHTK, k_BHTK = rotate(q_BHTK, angles), rotate(k_BHTK, angles)
        return q_BHTK, k_BHTK, v_BHTK

    def weights(
        self, x_BTC: Tensor, angles: tuple[Tensor, Tensor] | None = None, source_BSC: Tensor | None = None
    ) -> Tensor:
        """How much each token attends to each other one, (B, H, T, S), for inspection."""
        q_BHTK, k_BHSK, _ = self.queries_keys_values(x_BTC, angles, source_BSC)
        return attention_weights(q_BHTK, k_BHSK, causal=self.causal and source_BSC is None)


def prefer_fused(x_BTC: Tensor, training: bool) -> bool:
    """Whether the fused kernel is faster: on an accelerator, or on a CPU with no backward pass or a long window."""
    return x_BTC.device.type != "cpu" or not training or x_BTC.shape[1] >= LONG_WINDOW
