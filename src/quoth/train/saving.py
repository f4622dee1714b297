"""Save a run's checkpoints: all ranks begin and end every operation together, and get the same outcome."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

from quoth.system.errors import InputError
from quoth.system.world import World
from quoth.text.tokenizer import Tokenizer
from quoth.train.checkpoint import bare, snapshot, write_together
from quoth.train.keeper import CHECKPOINTS, Keeper
from quoth.train.optimizers import Together


class Checkpoints:
    """The checkpoints that a run writes; all ranks call each method, and get the same outcome.

    An outcome is a sentence on why a checkpoint could not be written, or "" if it was. A model that is not sharded is
    written in the background, so the outcome is known when the next checkpoint begins, or when `settle` has waited.

    Args:
        last: how many of the newest checkpoints are kept.
        every: checkpoints whose step is a multiple of this number are never removed; 0 for no such rule.
        sharded: whether each rank writes its part.
        name: the folder in the run's that holds them.

    Attributes:
        step: the step of the newest checkpoint that is written or being written; -1 if there is none.

    >>> problem = checkpoints.save(100, model, tokenizer, {"step": 100})    # doctest: +SKIP
    """

    def __init__(
        self,
        run: Path,
        world: World,
        last: int = 2,
        every: int = 0,
        *,
        sharded: bool = False,
        name: str = CHECKPOINTS,
    ) -> None:
        self.world, self.sharded, self.step = world, sharded, -1
        self._keeper = Keeper(run, last, every, name)
        self._writing = False
        if world.leads:
            self._keeper.clear()

    def save(
        self,
        step: int,
        model: nn.Module,
        tokenizer: Tokenizer,
        state: dict[str, Any],
        optimizer: Together | None = None,
        texts: Mapping[str, str] | None = None,
    ) -> str:
        """Write a checkpoint, or begin to; return the outcome of the previous one, and of this one if it is known."""
        problem, content = self.settle(), (model, tokenizer, state, optimizer)
        if self.sharded:
            try:
                write_together(self._keeper.path(step), bare(model), *content[1:], self.world, texts)
                self.world.attempt(lambda: self._keeper.prune(step))
            except InputError as error:  # All ranks get this error.
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
        """Wait until the checkpoint that was begun is on the disk and intact; return the outcome."""
        if not self._writing:
            return ""
        self._writing = False
        if problem := self.world.attempt(self._keeper.finish):
            self.step = -1
        return problem

    def wait(self) -> None:
        """Wait until this rank writes nothing more, whatever the others do: it ends with an error."""
        with suppress(InputError):
            self._keeper.finish()

    def mark_best(self, step: int) -> str:
        """Record that a saved step is the best so far; return the outcome."""
        return self.settle() or self.world.attempt(lambda: self._keeper.mark_best(step))

    def drop(self, step: int) -> None:
        """Remove a checkpoint that has turned out to be bad."""
        self.settle()
        self.world.attempt(lambda: self._keeper.drop(step))
