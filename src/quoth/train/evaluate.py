"""Exact loss over a whole split; nothing is sampled."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from quoth.system.errors import InputError
from quoth.text.batches import Batch
from quoth.text.tokenizer import Tokenizer
from quoth.train.objectives import next_token

# Of float32, in half a gigabyte.
LOGITS = 2**27


@dataclass(frozen=True)
class Evaluation:
    """Loss in nats per token over `tokens` predicted tokens, which stand for `bytes` bytes of text."""

    loss: float
    tokens: int
    bytes: int

    @property
    def bits_per_byte(self) -> float:
        """Comparable between tokenizers, unlike the loss."""
        return self.loss * self.tokens / log(2) / self.bytes

    @property
    def perplexity(self) -> float:
        """How many equally likely tokens would be as hard to guess."""
        return exp(min(self.loss, 700.0))


def evaluate(
    model: nn.Module, tokens: NDArray[np.integer], tokenizer: Tokenizer, *, context: int, batch: int = 0
) -> Evaluation:
    """The loss of every token but the first, each predicted once.

    The split is cut into consecutive windows of `context`, the last one shorter; a token sees what stands before it
    in its own window, as in training. This is what nanoGPT's sampled estimate estimates. A `batch` of 0 takes 32
    windows at a time, or fewer where their logits would fill more than half a gigabyte.

    Raises:
        InputError: there are fewer than two tokens.
    """
    if len(tokens) < 2:
        raise InputError(f"A loss needs at least 2 tokens, but there are {len(tokens)}.")
    device = next(model.parameters()).device
    batch = batch or max(1, min(32, LOGITS // (context * tokenizer.vocabulary)))
    full = (len(tokens) - 1) // context
    was_training = model.training
    model.eval()
    total = 0.0
    try:
        with torch.inference_mode():
            for row in range(0, full, batch):
                rows = min(batch, full - row)
                index = (row + np.arange(rows))[:, None] * context + np.arange(context + 1)
                total += next_token(model, _batch(tokens[index], device)).item()
            if len(rest := tokens[full * context :]) > 1:
                total += next_token(model, _batch(rest[None], device)).item()
    finally:
        model.train(was_training)
    return Evaluation(total / (len(tokens) - 1), len(tokens) - 1, byte_count(tokens[1:], tokenizer))


def _batch(window: NDArray[np.integer], device: torch.device) -> Batch:
    ids = torch.from_numpy(window.astype(np.int64)).to(device)
    return Batch(ids[:, :-1], ids[:, 1:])


def byte_count(tokens: NDArray[np.integer], tokenizer: Tokenizer) -> int:
    """How many bytes of text the tokens stand for."""
    lengths = np.array([len(piece) for piece in tokenizer.pieces])
    counts = np.bincount(tokens, minlength=len(lengths))
    return int(counts @ lengths)
