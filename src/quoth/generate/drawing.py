"""Logits of a step → the tokens that each request draws, and their chances."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from quoth.generate.request import Chance, Generation
from quoth.generate.sampling import adjusted, draw
from quoth.system.errors import InputError


def draw_each(asked: Sequence[tuple[Generation, list[int], Tensor]]) -> list[list[int]]:
    """What each request draws after each of its rows, given the tokens guessed between them and its logits (T, V).

    Requests that draw alike do so together.

    Raises:
        InputError: the model is broken: it has no opinion that could be drawn from.
    """
    drawn: list[list[int]] = [[] for _ in asked]
    left = list(range(len(asked)))
    while left:
        sampling = asked[left[0]][0].request.sampling
        alike = [i for i in left if asked[i][0].request.sampling == sampling]
        left = [i for i in left if i not in alike]
        rows = [_adjusted(*asked[i]) for i in alike]
        logit_RV = torch.cat(rows) if len(rows) > 1 else rows[0]
        u_R = torch.tensor([u for i in alike for u in _uniforms(*asked[i])], dtype=torch.float64)
        tokens = draw(logit_RV, sampling, u_R.to(logit_RV.device)).tolist()
        if max(tokens) == logit_RV.shape[-1]:
            raise InputError("The model's logits are no numbers: its weights are broken.")
        for i in alike:
            drawn[i], tokens = tokens[: len(asked[i][2])], tokens[len(asked[i][2]) :]
    return drawn


def _uniforms(generation: Generation, guessed: list[int], logit_TV: Tensor) -> list[float]:
    return [generation.uniforms[len(generation.answer) + n] for n in range(len(logit_TV))]


def _adjusted(generation: Generation, guessed: list[int], logit_TV: Tensor) -> Tensor:
    """The logits with penalties and biases, each row's as if what was guessed before it were right."""
    request = generation.request
    if not request.sampling.logit_bias and not request.sampling.looks_back:
        return logit_TV
    answers = [generation.answer + guessed[:n] for n in range(len(logit_TV))]
    return torch.stack(
        [adjusted(row, request.sampling, request.prompt, answer) for row, answer in zip(logit_TV, answers, strict=True)]
    )


def chances(logit_TV: Tensor, tokens: Sequence[int], top: int) -> list[Chance]:
    """The log-probability of each token, and the likeliest ones beside it."""
    if not tokens:
        return []
    logprob_TV = logit_TV.float().log_softmax(-1)
    own = logprob_TV.gather(-1, torch.tensor(tokens, device=logit_TV.device)[:, None])[:, 0].tolist()
    values, ids = logprob_TV.topk(min(top, logprob_TV.shape[-1]))
    likeliest = [list(zip(i, v, strict=True)) for i, v in zip(ids.tolist(), values.tolist(), strict=True)]
    return [Chance(logprob, best) for logprob, best in zip(own, likeliest, strict=True)]
