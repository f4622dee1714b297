"""Exercises on heads."""

import torch
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise


def split_heads(x_BTC: Tensor, heads: int) -> Tensor:
    """(B, T, C) → (B, H, T, K): head h has the channels hK to (h + 1)K."""
    B, T, C = x_BTC.shape
    return x_BTC.view(B, T, heads, C // heads).transpose(1, 2)


def not_split_by_channel(x_BTC, heads):
    """The shape is right but times are mixed: view as (B, T, H, K) first, then exchange axes."""
    B, T, C = x_BTC.shape
    return x_BTC.view(B, heads, T, C // heads)


def every_other(x_BTC, heads):
    """A head has every H-th channel; it should have K that lie side by side."""
    B, T, C = x_BTC.shape
    return x_BTC.view(B, T, C // heads, heads).permute(0, 3, 1, 2)


def not_transposed(x_BTC, heads, *, of=split_heads):
    """That is (B, T, H, K); heads should come before time, so that each is a batch of its own."""
    return of(x_BTC, heads).transpose(1, 2)


def merge_heads(x_BHTK: Tensor) -> Tensor:
    """(B, H, T, K) → (B, T, C), the heads' channels side by side: what split_heads did, undone."""
    return x_BHTK.transpose(1, 2).flatten(-2)


def flattened(x_BHTK):
    """Time and heads are mixed: exchange their axes before they are joined."""
    B, H, T, K = x_BHTK.shape
    return x_BHTK.reshape(B, T, H * K)


def interleaved(x_BHTK):
    """Heads' channels are interleaved; they should stand side by side."""
    return x_BHTK.permute(0, 2, 3, 1).flatten(-2)


EXERCISES = (
    Exercise(
        split_heads,
        (not_split_by_channel, every_other, not_transposed),
        lambda rng: [(torch.randn(2, 5, 12, generator=rng), 3), (torch.randn(1, 4, 8, generator=rng), 4)],
    ),
    Exercise(merge_heads, (flattened, interleaved), lambda rng: [(torch.randn(2, 3, 5, 4, generator=rng),)]),
)
