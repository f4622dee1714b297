"""Logits → token: pure functions of logits, settings and a generator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quoth.system.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is drawn.

    Attributes:
        temperature: logits are divided by it; 0 always takes the likeliest.
        top_k: only the k likeliest; 0 for all.
        top_p: only the likeliest that together reach this probability (Holtzman et al. 2019, arXiv:1904.09751).
        min_p: only those at least this share as likely as the likeliest (Nguyen et al. 2024, arXiv:2407.01082).
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise InputError(f"temperature must be 0 or more, not {self.temperature}.")
        if self.top_k < 0:
            raise InputError(f"top_k must be 0 or more, not {self.top_k}.")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p must lie in (0, 1], not {self.top_p}.")
        if not 0 <= self.min_p <= 1:
            raise InputError(f"min_p must lie in [0, 1], not {self.min_p}.")


def distribution(logit_BV: Tensor, sampling: Sampling) -> Tensor:
    """The probabilities (B, V) that a token is drawn from; each row sums to 1.

    Temperature comes first; every limit is then judged on the tempered probabilities, and what passes all is rescaled.

    >>> distribution(torch.tensor([[0.0, 1.0, 2.0]]), Sampling(temperature=1, top_k=1))
    tensor([[0., 0., 1.]])
    """
    logit_BV = logit_BV.float()
    if sampling.temperature == 0:
        return torch.nn.functional.one_hot(logit_BV.argmax(-1), logit_BV.shape[-1]).float()
    p_BV = (logit_BV / sampling.temperature).softmax(-1)
    keep_BV = p_BV >= sampling.min_p * p_BV.amax(-1, keepdim=True)
    if sampling.top_k or sampling.top_p < 1:
        sorted_BV, order_BV = p_BV.sort(dim=-1, descending=True, stable=True)
        rank_V = torch.arange(p_BV.shape[-1], device=p_BV.device)
        # A token is kept while those before it have not yet reached top_p, so the likeliest always is.
        near_BV = sorted_BV.cumsum(-1) - sorted_BV < sampling.top_p
        near_BV &= rank_V < (sampling.top_k or p_BV.shape[-1])
        keep_BV &= torch.zeros_like(keep_BV).scatter(-1, order_BV, near_BV)
    p_BV = p_BV * keep_BV
    return p_BV / p_BV.sum(-1, keepdim=True)


def draw(logit_BV: Tensor, sampling: Sampling, rng: torch.Generator) -> Tensor:
    """One token for each row: (B, V) → (B,)."""
    if sampling.temperature == 0:
        return logit_BV.argmax(-1)
    return torch.multinomial(distribution(logit_BV, sampling), 1, generator=rng)[:, 0]
