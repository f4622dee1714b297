"""Saving a run's checkpoints: every operation is entered and left by all ranks together, with one outcome."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quoth.model.gpt import GPT
from quoth.system.errors import InputError
from quoth.system.world import World
from quoth.text.tokenizer import Tokenizer
from quoth.train.checkpoint import snapshot, write_together
from quoth.train.keeper import Keeper
from quoth.train.optimizers import Together


class Checkpoints:
    """The checkpoints that a run writes; each method is called by all ranks, and tells all of them the same.

    An outcome is a sentence on what stopped a checkpoint from being written, or nothing. A checkpoint of one process
    is written in the background, so its outcome is known when the next one begins, or when it is waited for.

    Args:
        last: how many of the newest are kept.
        every: steps whose multiples are kept for good; 0 for none.
        sharded: whether each rank writes its part.

    Attributes:
        step: of the newest checkpoint that is written or being written; -1 for none.

    >>> problem = checkpoints.save(100, model, tokenizer, {"step": 100})    # doctest: +SKIP
    """

    def __init__(self, run: Path, world: World, last: int = 2, every: int = 0, *, sharded: bool = False) -> None:
        self.world, self.sharded, self.step = world, sharded, -1
        self._keeper = Keeper(run, last, every)
        self._writing = False
        if world.leads:
            self._keeper.clear()

    def save(
        self,
        step: int,
        model: GPT,
        tokenizer: Tokenizer,
        state: dict[str, Any],
        optimizer: Together | None = None,
        texts: Mapping[str, str] | None = None,
    ) -> str:
        """Write a checkpoint of a step, or begin to; the outcome of the one before, and of this as far as known."""
        problem, content = self.settle(), (model, tokenizer, state, optimizer)
        if self.sharded:
            try:
                write_together(self._keeper.path(step), *content, self.world, texts)
                self.world.attempt(lambda: self._keeper.prune(step))
            except InputError as error:  # All ranks have it.
                return " ".join(filter(None, (problem, str(error))))
        else:
            begun = self.world.attempt(lambda: self._keeper.save(snapshot(*content, texts), step))
            self._writing = not begun
            problem = " ".join(filter(None, (problem, begun)))
            if begun:
                return problem
        self.step = step
        return problem

    def settle(self) -> str:
        """Wait until what was begun is on the disk and whole; the outcome."""
        if not self._writing:
            return ""
        self._writing = False
        if problem := self.world.attempt(self._keeper.finish):
            self.step = -1
        return problem

    def mark_best(self, step: int) -> str:
        """Say that a saved step is the best so far; the outcome."""
        return self.settle() or self.world.attempt(lambda: self._keeper.mark_best(step))

    def drop(self, step: int) -> None:
        """Remove a checkpoint that has turned out to be no good."""
        self.settle()
        self.world.attempt(lambda: self._keeper.drop(step))
