"""Logits → token: pure functions of logits, settings and a number between 0 and 1."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from quoth.system.errors import InputError

# No lower temperature tells tokens apart any better.
LOWEST = 1e-30
# No larger penalty or bias decides any more surely, and logits in float32 stay finite.
MOST = 1e30


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is drawn.

    Attributes:
        temperature: logits are divided by it; 0 always takes the likeliest.
        top_k: only the k likeliest; 0 for all.
        top_p: only the likeliest that together reach this probability (Holtzman et al. 2019, arXiv:1904.09751).
        min_p: only those at least this share as likely as the likeliest (Nguyen et al. 2024, arXiv:2407.01082).
        repetition_penalty: logits of tokens that were there, in prompt or answer, are divided by it where positive and
            multiplied where not (Keskar et al. 2019, arXiv:1909.05858); 1 for none.
        presence_penalty: taken off the logits of tokens that the answer has already.
        frequency_penalty: taken off them once for each time.
        logit_bias: added to the logits of these ids.

    Raises:
        InputError: a value out of its range.
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature must be 0 or more, not {self.temperature}.")
        if self.top_k < 0:
            raise InputError(f"top_k must be 0 or more, not {self.top_k}.")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p must lie in (0, 1], not {self.top_p}.")
        if not 0 <= self.min_p <= 1:
            raise InputError(f"min_p must lie in [0, 1], not {self.min_p}.")
        if not 0.01 <= self.repetition_penalty <= 100:
            raise InputError(f"repetition_penalty must lie in [0.01, 100], not {self.repetition_penalty}.")
        for name in ("presence_penalty", "frequency_penalty"):
            if not abs(getattr(self, name)) <= MOST:
                raise InputError(f"{name} must be a number between -1e30 and 1e30, not {getattr(self, name)}.")
        if wrong := [bias for bias in self.logit_bias.values() if not abs(bias) <= MOST]:
            raise InputError(f"logit_bias must hold numbers between -1e30 and 1e30, not {wrong[0]}.")

    @property
    def adjusts(self) -> bool:
        """Whether it changes logits one by one, before they are drawn from."""
        penalties = (self.repetition_penalty, self.presence_penalty, self.frequency_penalty)
        return penalties != (1, 0, 0) or bool(self.logit_bias)


def adjusted(logit_V: Tensor, sampling: Sampling, prompt: Sequence[int], answer: Sequence[int]) -> Tensor:
    """A row of logits with its penalties and biases.

    >>> adjusted(torch.tensor([2.0, -2.0, 1.0]), Sampling(repetition_penalty=2), [0], [1])
    tensor([ 1., -4.,  1.])
    """
    logit_V = logit_V.float().clone()
    if sampling.repetition_penalty != 1:
        seen = torch.tensor(sorted({*prompt, *answer}), device=logit_V.device, dtype=torch.long)
        was = logit_V[seen]
        logit_V[seen] = torch.where(was > 0, was / sampling.repetition_penalty, was * sampling.repetition_penalty)
    if answer and (sampling.presence_penalty or sampling.frequency_penalty):
        times = torch.bincount(torch.tensor(answer, device=logit_V.device), minlength=len(logit_V))
        logit_V -= sampling.presence_penalty * (times > 0) + sampling.frequency_penalty * times
    for token, bias in sampling.logit_bias.items():
        logit_V[token] += bias
    return logit_V


def distribution(logit_BV: Tensor, sampling: Sampling) -> Tensor:
    """The probabilities (B, V) that a token is drawn from, in float64; each row sums to 1.

    Temperature comes first; every limit is then judged on the tempered probabilities, and what passes all is rescaled.

    >>> distribution(torch.tensor([[0.0, 1.0, 2.0]]), Sampling(temperature=1, top_k=1)).tolist()
    [[0.0, 0.0, 1.0]]
    """
    V = logit_BV.shape[-1]
    if sampling.temperature == 0:
        return torch.nn.functional.one_hot(_first_largest(logit_BV), V).double()
    p_BV = (logit_BV.double() / max(sampling.temperature, LOWEST)).softmax(-1)
    if not sampling.top_k and not sampling.min_p and sampling.top_p == 1:
        return p_BV
    keep_BV = p_BV >= sampling.min_p * p_BV.amax(-1, keepdim=True)
    if sampling.top_k or sampling.top_p < 1:
        # By logits: a high temperature makes probabilities equal that are not.
        order_BV = logit_BV.sort(dim=-1, descending=True, stable=True).indices
        sum_BV = p_BV.gather(-1, order_BV).cumsum(-1)
        # A token is kept while those before it have not yet reached top_p; the likeliest always is.
        near_BV = torch.ones_like(keep_BV)
        near_BV[:, 1:] = sum_BV[:, :-1] < sampling.top_p
        near_BV[:, min(sampling.top_k or V, V) :] = False
        keep_BV &= torch.zeros_like(keep_BV).scatter(-1, order_BV, near_BV)
    p_BV = p_BV * keep_BV
    return p_BV / p_BV.sum(-1, keepdim=True)


def draw(logit_BV: Tensor, sampling: Sampling, u_B: Tensor) -> Tensor:
    """One token for each row, (B, V) → (B,): the one at which the summed probabilities pass u, which lies in [0, 1).

    Of equally likely tokens a temperature of 0 takes the first. A row that holds NaN or +inf, or nothing but -inf,
    gives V, which is no token.
    """
    V = logit_BV.shape[-1]
    valid_B = (logit_BV < torch.inf).all(-1) & (logit_BV > -torch.inf).any(-1)
    if sampling.temperature == 0:
        return torch.where(valid_B, _first_largest(logit_BV), V)
    sum_BV = distribution(logit_BV, sampling).cumsum(-1)
    return torch.where(valid_B, torch.searchsorted(sum_BV, u_B[:, None] * sum_BV[:, -1:], right=True)[:, 0], V)


def _first_largest(logit_BV: Tensor) -> Tensor:
    """The first of the largest logits of each row, (B, V) → (B,); PyTorch's argmax may name any of them."""
    largest_BV = logit_BV == logit_BV.amax(-1, keepdim=True)
    return largest_BV.cumsum(-1).eq(0).sum(-1).clamp(max=logit_BV.shape[-1] - 1)


class Uniforms:
    """Numbers in [0, 1) that a seed and the choice among several answers decide; the n-th is the n-th token's.

    >>> Uniforms(7, 0)[3] == Uniforms(7, 0)[3] != Uniforms(7, 1)[3]
    True
    """

    def __init__(self, seed: int, choice: int = 0) -> None:
        self._random, self._drawn = random.Random(f"{seed}/{choice}"), list[float]()

    def __getitem__(self, n: int) -> float:
        while len(self._drawn) <= n:
            self._drawn.append(self._random.random())
        return self._drawn[n]
