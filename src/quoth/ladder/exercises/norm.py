"""Exercises on norms."""

import torch
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise


def layer_norm(x_BTC: Tensor, eps: float) -> Tensor:
    """Each token's channels to mean 0 and variance 1, eps added to the variance; nothing learned."""
    centred = x_BTC - x_BTC.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()


def over_batch(x_BTC, eps, *, of=layer_norm):
    """Means run over the batch and time, as in batch norm; each token should be normed by itself."""
    return of(x_BTC.flatten(0, 1).T[None], eps)[0].T.view_as(x_BTC)


def unbiased(x_BTC, eps, *, of=layer_norm):
    """The variance is divided by C − 1; it should be divided by C."""
    biased = (x_BTC.shape[-1] - 1) / x_BTC.shape[-1]
    return of(x_BTC, biased * eps) * biased**0.5


def not_centred(x_BTC, eps):
    """The mean is not taken away; that is RMSNorm."""
    return rms_norm(x_BTC, eps)


def variance_only(x_BTC, eps, *, of=layer_norm):
    """The vectors are divided by the variance; they should be divided by its root."""
    return of(x_BTC, eps).square() / (x_BTC - x_BTC.mean(-1, keepdim=True))


def no_eps(x_BTC, eps, *, of=layer_norm):
    """eps is not added, so that a token of equal channels divides by zero."""
    return of(x_BTC, 0.0)


def rms_norm(x_BTC: Tensor, eps: float) -> Tensor:
    """Each token divided by the root of the mean of its squares, eps added to the mean; nothing learned."""
    return x_BTC / (x_BTC.square().mean(-1, keepdim=True) + eps).sqrt()


def centred_too(x_BTC, eps):
    """The mean is taken away; that is layer norm."""
    return layer_norm(x_BTC, eps)


def by_length(x_BTC, eps, *, of=rms_norm):
    """The vectors are divided by their length, the root of the sum of squares; the root of the mean is wanted."""
    return of(x_BTC, eps / x_BTC.shape[-1]) * x_BTC.shape[-1] ** -0.5


def inputs(rng: torch.Generator) -> list[tuple[Tensor, float]]:
    return [(3 * torch.randn(2, 4, 6, generator=rng) + 1, eps) for eps in (1e-5, 0.5)]


EXERCISES = (
    Exercise(layer_norm, (over_batch, unbiased, not_centred, variance_only, no_eps), inputs),
    Exercise(rms_norm, (centred_too, by_length), inputs),
)
