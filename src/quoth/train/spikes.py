"""Loss spikes: how large a loss may be before its step is left out."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf, isfinite, sqrt

WINDOW = 128
# Noise is a share of the loss too: a window of nearly equal losses must not make a spike of the next.
LEAST_SPREAD = 0.02


class Spikes:
    """The last losses that were learned from. Above their mean by `sigmas` standard deviations a loss is a spike.

    The window and the six deviations are those of SkipStepOptimizer in OLMo-core; there a spike is in the window too,
    while here losses that stay high send the run back. 0 sigmas: no limit.

    >>> spikes = Spikes([1.0, 1.1] * 64)
    >>> spikes.limit < 3
    True
    """

    def __init__(self, losses: Iterable[float] = (), sigmas: float = 6.0) -> None:
        self.losses, self.sigmas = list(losses), sigmas

    def see(self, loss: float) -> None:
        """Remember a loss, unless it is not finite."""
        if isfinite(loss):
            self.losses = [*self.losses[1 - WINDOW :], loss]

    @property
    def limit(self) -> float:
        """The largest loss to learn from; none until the window is half full."""
        count = len(self.losses)
        if not self.sigmas or count < WINDOW // 2:
            return inf
        mean = sum(self.losses) / count
        spread = sqrt(sum((loss - mean) ** 2 for loss in self.losses) / count)
        return mean + self.sigmas * max(spread, LEAST_SPREAD * abs(mean))
