"""What a stage measures of a model on what is held out, without anything that only training needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from quoth.model.gpt import GPT
from quoth.recipes.stage import Judgement


@dataclass(frozen=True)
class Judging:
    """How a stage evaluates a model; see `Stage` for the fields."""

    judge: Callable[[GPT, Callable[[], bool]], Judgement]
    loss_is: str
