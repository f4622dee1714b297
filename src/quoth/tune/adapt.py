"""Fit a pretrained model to what it is tuned for: more tokens, no dropout."""

from __future__ import annotations

import torch
from torch import Tensor

from quoth.model.gpt import GPT


def resized(model: GPT, vocabulary: int) -> GPT:
    """A copy of a model with `vocabulary` tokens and without dropout.

    The rows of new tokens in the embedding and in the head are the mean of the old rows, so a new token is at first as
    likely as an average one (Hewitt 2021, "Initializing new word embeddings for pretrained language models").

    Dropout is off in all tuning: log-probabilities that objectives compare must not depend on random masks.

    >>> resized(model, model.config.vocabulary + 4).embed.weight.shape    # doctest: +SKIP
    torch.Size([69, 192])
    """
    new = GPT(model.config.replace(vocabulary=vocabulary, dropout=0.0), model.block)
    new.load_state_dict({name: _grown(name, tensor, vocabulary) for name, tensor in model.state_dict().items()})
    return new.to(model.embed.weight.device)


def _grown(name: str, tensor: Tensor, rows: int) -> Tensor:
    if name not in ("embed.weight", "head.weight", "head.bias") or rows <= len(tensor):
        return tensor
    mean = tensor.mean(0, keepdim=True)
    return torch.cat([tensor, mean.expand(rows - len(tensor), *tensor.shape[1:])])
