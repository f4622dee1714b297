"""Keep a run's weights as they were at some moments of its training, so that one can look back at how it learned."""

from __future__ import annotations

import shutil
from pathlib import Path

from torch import nn

from quoth.system.world import World
from quoth.text.tokenizer import Tokenizer
from quoth.train.keeper import SNAPSHOTS, snapshots, step_of
from quoth.train.saving import Checkpoints

# More would show no more; each takes as much as the model.
MOST = 1000
# The share of a run at which the first snapshot after the one before training is taken.
EARLIEST = 1 / 512


def shares(count: int) -> list[float]:
    """The shares of a run after which its snapshots are taken: 0, and then EARLIEST to 1 in equal ratios, without 1.

    Most of what a model learns it learns early, and at the end there is a checkpoint anyway.

    >>> [round(share, 4) for share in shares(4)]
    [0.0, 0.002, 0.0156, 0.125]
    """
    return [0.0, *(EARLIEST ** (1 - n / (count - 1)) for n in range(count - 1))][:count]


class Snapshots:
    """Checkpoints of a run that hold weights alone, in its folder `snapshots`; all ranks call each method.

    Args:
        count: how many are taken; 0 for none.
        sharded: whether each rank writes its part.
    """

    def __init__(self, run: Path, world: World, count: int, *, sharded: bool = False) -> None:
        self.run, self.world, self.shares = run, world, shares(count)
        self._saved = Checkpoints(run, world, every=1, sharded=sharded, name=SNAPSHOTS)

    def take(self, before: float, progress: float, step: int, model: nn.Module, tokenizer: Tokenizer) -> str:
        """Begin to write a snapshot where its share lies after `before` and up to `progress`; return the outcome.

        The outcome is a sentence on why this snapshot, or the one before it, could not be written, or "".
        """
        if not any(before < share <= progress for share in self.shares):
            return ""
        return self._saved.save(step, model, tokenizer, {"step": step, "progress": progress})

    def settle(self) -> str:
        """Wait until the snapshot that was begun is on the disk; return the outcome."""
        return self._saved.settle()

    def wait(self) -> None:
        """Wait until this rank writes nothing more, whatever the others do."""
        self._saved.wait()

    def cut(self, step: int) -> None:
        """Remove the snapshots of later steps, since a run that goes back takes them again."""
        self.settle()
        if self.world.leads:
            for folder in snapshots(self.run):
                if step_of(folder) > step:
                    shutil.rmtree(folder, ignore_errors=True)
