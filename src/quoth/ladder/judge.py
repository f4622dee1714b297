"""How the lecture judges a rung: by the mean loss over 200 random batches, and by what it writes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from quoth.generate.engine import Engine
from quoth.generate.sampling import Sampling
from quoth.ladder.rung import BATCH
from quoth.model.gpt import GPT
from quoth.text.batches import Batch
from quoth.text.tokenizer import Tokenizer
from quoth.train.objectives import next_token


def sampled_loss(model: nn.Module, tokens: NDArray[np.integer], context: int, seed: int, batches: int = 200) -> float:
    """Nats per token over random windows, which may overlap; `evaluate` is exact, and hardly slower."""
    rng = np.random.default_rng(seed)
    losses = []
    with torch.no_grad():
        for _ in range(batches):
            starts = rng.integers(len(tokens) - context, size=BATCH)
            window = torch.from_numpy(tokens[starts[:, None] + np.arange(context + 1)].astype(np.int64))
            batch = Batch(window[:, :-1], window[:, 1:])
            losses.append(next_token(model, batch).item() / batch.count)
    return float(np.mean(losses))


def written(model: GPT, tokenizer: Tokenizer, tokens: int, seed: int, *, cached: bool = False) -> str:
    """What a model writes at temperature 1. The lecture's blocks keep no cache."""
    engine = Engine(model, tokenizer, cached=cached)
    return engine.samples(tokens=tokens, sampling=Sampling(temperature=1.0), seed=seed)[0]
