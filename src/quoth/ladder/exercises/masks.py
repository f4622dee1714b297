"""Exercises on masks."""

import torch
from torch import Tensor

from quoth.ladder.checker.exercise import Exercise


def prefix_mask(T: int, prefix: int) -> Tensor:
    """A (T, T) mask, true where a row may hear a column: the first `prefix` tokens hear all of the prefix, the others
    hear themselves and what is before them.
    """
    mask_TT = torch.ones(T, T).tril().bool()
    mask_TT[:prefix, :prefix] = True
    return mask_TT


def causal_throughout(T, prefix):
    """The prefix is causal too; its tokens should hear all of it."""
    return torch.ones(T, T).tril().bool()


def prefix_hears_all(T, prefix, *, of=prefix_mask):
    """The prefix hears what is after it; it should hear only itself."""
    mask_TT = of(T, prefix)
    mask_TT[:prefix] = True
    return mask_TT


def prefix_hidden(T, prefix, *, of=prefix_mask):
    """What follows does not hear the prefix; it should."""
    mask_TT = of(T, prefix)
    mask_TT[prefix:, :prefix] = False
    return mask_TT


def window_mask(T: int, window: int) -> Tensor:
    """A causal (T, T) mask by which each token hears itself and the `window` − 1 before it."""
    return torch.ones(T, T).tril().triu(1 - window).bool()


def one_more(T, window, *, of=window_mask):
    """One token too many is heard."""
    return of(T, window + 1)


def both_ways(T, window):
    """Later tokens are heard too; the mask should be causal."""
    return torch.ones(T, T).tril(window - 1).triu(1 - window).bool()


EXERCISES = (
    Exercise(prefix_mask, (causal_throughout, prefix_hears_all, prefix_hidden), lambda rng: [(6, 3), (5, 2)]),
    Exercise(window_mask, (one_more, both_ways), lambda rng: [(6, 3), (5, 2)]),
)
