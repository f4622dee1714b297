"""The exact loss over a whole split, without sampling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from quoth.system.errors import InputError, Interrupted
from quoth.system.world import World
from quoth.text.batches import Batch
from quoth.text.tokenizer import Tokenizer
from quoth.train.objectives import next_token

# The number of float32 logits that fill half a gigabyte.
LOGITS = 2**27


@dataclass(frozen=True)
class Evaluation:
    """The loss in nats per token over `tokens` predicted tokens, which stand for `bytes` bytes of text."""

    loss: float
    tokens: int
    bytes: int

    @property
    def bits_per_byte(self) -> float:
        """The loss in bits per byte of text, which, unlike the loss per token, can be compared between tokenizers."""
        return self.loss * self.tokens / log(2) / self.bytes

    @property
    def perplexity(self) -> float:
        """The number of equally likely tokens among which the next would be as hard to guess."""
        return exp(min(self.loss, 700.0))


def evaluate(
    model: nn.Module,
    tokens: NDArray[np.integer],
    tokenizer: Tokenizer,
    *,
    context: int,
    batch: int = 0,
    world: World | None = None,
    go_on: Callable[[], bool] = lambda: True,
) -> Evaluation:
    """The mean loss of every token but the first; each token is predicted once.

    The split is cut into consecutive windows of `context` tokens, of which the last is shorter. As in training, a token
    is predicted from the tokens before it in its own window. nanoGPT's sampled loss is an estimate of this one. A
    `batch` of 0 takes 32 windows at a time, or fewer if their logits would fill more than half a gigabyte. In a world
    of several processes each takes its share.

    Raises:
        InputError: there are fewer than two tokens.
        Interrupted: `go_on`, which is called before each batch, returned false.
    """
    if len(tokens) < 2:
        raise InputError(f"A loss needs at least 2 tokens, but there are {len(tokens)}.")
    device, world = next(model.parameters()).device, world or World()
    batch = batch or max(1, min(32, LOGITS // (context * tokenizer.vocabulary)))
    full = (len(tokens) - 1) // context
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    total = 0.0
    try:
        # This is not inference_mode, since training reuses what a sharded model gathers here.
        with torch.no_grad():
            for turn in range(0, full, batch * world.size):
                if not go_on():
                    raise Interrupted
                row = turn + batch * world.rank
                rows = min(batch, full - row)
                # All processes take every turn, since a sharded model needs them; one without rows reads the first row.
                index = (row + np.arange(rows) if rows > 0 else np.arange(1))[:, None] * context
                loss = next_token(model, _batch(tokens[index + np.arange(context + 1)], device)).item()
                total += loss if rows > 0 else 0.0
            if len(rest := tokens[full * context :]) > 1:
                loss = next_token(model, _batch(rest[None], device)).item()
                total += loss if world.leads else 0.0
    finally:
        for module, training in modes:  # Each module gets its own mode back: some may be frozen in evaluation mode.
            module.training = training
    total = world.sum(total).item()
    return Evaluation(total / (len(tokens) - 1), len(tokens) - 1, byte_count(tokens[1:], tokenizer))


def _batch(window: NDArray[np.integer], device: torch.device) -> Batch:
    ids = torch.from_numpy(window.astype(np.int64)).to(device)
    return Batch(ids[:, :-1], ids[:, 1:])


def byte_count(tokens: NDArray[np.integer], tokenizer: Tokenizer) -> int:
    """How many bytes of text the tokens stand for."""
    lengths = np.array([len(piece) for piece in tokenizer.pieces])
    counts = np.bincount(tokens, minlength=len(lengths))
    return int(counts @ lengths)
