"""Loss spikes: how large a loss may be before its step is left out."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf, isfinite, sqrt

WINDOW = 128
# The least spread, as a share of the mean loss: after nearly equal losses a slightly larger one is not a spike.
LEAST_SPREAD = 0.02


class Spikes:
    """The last losses that were learned from; a loss over `sigmas` standard deviations above their mean is a spike.

    The window and the six deviations are those of SkipStepOptimizer in OLMo-core, where the window also includes
    spikes; here losses that stay high send the run back. With `sigmas` 0 there is no limit.

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
        """The largest loss to learn from; infinite until the window is half full."""
        count = len(self.losses)
        if not self.sigmas or count < WINDOW // 2:
            return inf
        mean = sum(self.losses) / count
        spread = sqrt(sum((loss - mean) ** 2 for loss in self.losses) / count)
        return mean + self.sigmas * max(spread, LEAST_SPREAD * abs(mean))
