"""Logits of a step → the tokens that each request draws, and their chances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from quoth.generate.decoder import Decoder
from quoth.generate.request import Chance, Generation
from quoth.generate.sampling import Sampling, adjusted
from quoth.system.errors import InputError


@dataclass(frozen=True)
class DrawTask:
    """A request whose next tokens are to be drawn: after what it has, and after each token guessed to follow.

    The logits are in as many rows, from `first` on.
    """

    generation: Generation
    guessed: list[int]
    first: int

    @property
    def rows(self) -> range:
        return range(self.first, self.first + 1 + len(self.guessed))


def draw_each(decoder: Decoder, logit_RV: Tensor, ready: Sequence[DrawTask]) -> list[list[int]]:
    """What each request draws, in each of its rows.

    Raises:
        InputError: the model is broken: it has no opinion that could be drawn from.
    """
    rows: list[int] = []
    samplings: list[Sampling] = []
    uniforms: list[float] = []
    for one in ready:
        request, answered = one.generation.request, len(one.generation.answer)
        if request.sampling.adjusts:
            logit_RV = _adjusted(logit_RV, one)
        rows += one.rows
        samplings += [request.sampling] * len(one.rows)
        uniforms += [one.generation.uniforms[answered + n] for n in range(len(one.rows))]
    tokens = decoder.draw(logit_RV, rows, samplings, uniforms) if rows else []
    if tokens and max(tokens) >= logit_RV.shape[-1]:
        raise InputError("The model's logits are no numbers: its weights are broken.")
    drawn = iter(tokens)
    return [[next(drawn) for _ in one.rows] for one in ready]


def _adjusted(logit_RV: Tensor, one: DrawTask) -> Tensor:
    """The logits with penalties and biases, each row's as if what was guessed before it were right."""
    request, logit_RV = one.generation.request, logit_RV.clone()
    for n, row in enumerate(one.rows):
        answer = one.generation.answer + one.guessed[:n]
        logit_RV[row] = adjusted(logit_RV[row], request.sampling, request.prompt, answer)
    return logit_RV


def chances(logit_TV: Tensor, tokens: Sequence[int], top: int) -> list[Chance]:
    """The log-probability of each token, and the likeliest ones beside it."""
    if not tokens:
        return []
    logprob_TV = logit_TV.float().log_softmax(-1)
    own = logprob_TV.gather(-1, torch.tensor(tokens, device=logit_TV.device)[:, None])[:, 0].tolist()
    values, ids = logprob_TV.topk(min(top, logprob_TV.shape[-1]))
    likeliest = [list(zip(i, v, strict=True)) for i, v in zip(ids.tolist(), values.tolist(), strict=True)]
    return [Chance(logprob, best) for logprob, best in zip(own, likeliest, strict=True)]
