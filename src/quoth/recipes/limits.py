"""Whether a run's memory is there, and what to do where it is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from quoth.model.attention import LONG_WINDOW
from quoth.plan.footprint import largest_batch, memory
from quoth.recipes.recipe import Recipe
from quoth.system.device import Hardware
from quoth.system.errors import InputError
from quoth.system.memory import available_bytes, size
from quoth.system.world import World
from quoth.text.batches import shares


def check_memory(recipe: Recipe, hardware: Hardware, world: World | None = None) -> None:
    """Refuse a run whose step cannot fit, before anything is made. Processes on one machine share its memory.

    Raises:
        InputError: it does not fit; the message names the batch that would.
    """
    world, available = world or World(), available_bytes(hardware.device)
    if available is None:
        return
    if hardware.device == "cpu":
        available //= world.locals
    c, run = recipe.model, recipe.run
    batch, _ = shares(run.batch, run.accumulate, world.size)
    how: dict[str, Any] = {
        "dtype_bytes": 2 if hardware.dtype == "bfloat16" else 4,
        "written_out": hardware.device == "cpu" and c.context < LONG_WINDOW,
        "optimizer": recipe.optimizer.optimizer,
        "compiled": hardware.compile,
        "recompute": run.recompute,
        "shards": world.size if run.shard else 1,
    }
    need = memory(c, batch, **how).peak
    if need <= available:
        return
    if fits := largest_batch(c, available, **how):
        times = -(-run.batch * run.accumulate // (fits * world.size)) * world.size
        advice = f"--batch {fits} would fit (with --accumulate {times}, which makes a step of {fits * times} windows)"
    else:
        advice = "not even a batch of 1 fits, so take less --width, fewer --layers or a shorter --context"
    raise InputError(
        f"A step of batch {batch} needs about {size(need)} of memory, but {size(available)} are free: {advice}."
    )


@contextmanager
def memory_refusals(recipe: Recipe) -> Iterator[None]:
    """Turn running out of memory into a sentence."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not known and "allocate memory" not in str(error) and "not enough memory" not in str(error):
            raise
        half, twice = max(1, recipe.run.batch // 2), 2 * recipe.run.accumulate
        raise InputError(
            f"Memory ran out with batch {recipe.run.batch} and context {recipe.model.context}; --batch {half} with "
            f"--accumulate {twice} needs less, and so does a smaller model. Saved checkpoints are kept."
        ) from error
