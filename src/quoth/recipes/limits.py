"""Check whether a run fits into memory and onto the disk, and say what to do if it does not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from quoth.model.attention import LONG_WINDOW
from quoth.plan.footprint import largest_batch, memory
from quoth.recipes.dial import matrix_parameters
from quoth.recipes.recipe import Recipe, Setting, Settings
from quoth.system.device import Hardware
from quoth.system.errors import InputError, is_out_of_memory
from quoth.system.lock import LOCK
from quoth.system.memory import available_bytes, size
from quoth.system.world import World
from quoth.text.batches import shares
from quoth.train.checkpoint import bare
from quoth.train.optimizers import OptimizerConfig, matrices

# The space that all snapshots of a run may take together, where their number is not given.
SNAPSHOT_BYTES = 10**9


def check_memory(recipe: Recipe, hardware: Hardware, world: World | None = None) -> None:
    """Refuse a run whose step does not fit into memory, before anything is made. Processes on a machine share it.

    Raises:
        InputError: the step does not fit; the message names the batch that would.
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


def checkpoint_bytes(model: nn.Module, c: OptimizerConfig) -> int:
    """The approximate size of a checkpoint with the optimizer's state, two numbers a parameter (one with Muon)."""
    numbers = sum(p.numel() for p in model.parameters())
    muon = sum(p.numel() for p in matrices(model)) if c.optimizer == "muon" else 0
    return 4 * (numbers + 2 * (numbers - muon) + muon) + 2**16


def with_snapshots(recipe: Recipe, known: Settings) -> tuple[Recipe, Settings]:
    """The recipe and its settings with as many snapshots as SNAPSHOT_BYTES hold, unless their number is given.

    Adapters are small, and need no such limit.
    """
    if "snapshots" in known or (recipe.tune and recipe.tune.lora):
        return recipe, known
    one, usual = 4 * matrix_parameters(recipe.model), recipe.run.snapshots
    count = min(usual, SNAPSHOT_BYTES // one)
    if count == usual:
        return recipe, known
    why = f"dial: each takes {size(one)}, all together at most {size(SNAPSHOT_BYTES)}"
    return replace(recipe, run=replace(recipe.run, snapshots=count)), {**known, "snapshots": Setting(count, why)}


def disk_problem(folder: Path, one: int, keep_last: int, snapshots: int = 0) -> tuple[str, str]:
    """Why the disk has no room for even one checkpoint of `one` bytes, and why not for all; each "" if it has room.

    "All" are the last `keep_last`, the best, the one being written, and `snapshots` bytes. What the run has saved
    already counts as room.
    """
    want = (keep_last + 2) * one + snapshots
    free = shutil.disk_usage(folder).free + sum(f.stat().st_size for f in folder.rglob("*.safetensors"))
    if free < one:
        room = f"A checkpoint of this model takes {size(one)}, but {folder} has room for {size(free)}"
        return f"{room}; give --out a folder on a larger disk.", ""
    if free < want:
        return "", (
            f"The checkpoints that are kept take up to {size(want)}, but {folder} has room for {size(free)}; a "
            "smaller --keep-last, fewer --snapshots or a larger disk would keep all of them."
        )
    return "", ""


def check_disk(folder: Path, model: nn.Module, recipe: Recipe, world: World) -> str:
    """Refuse a run whose checkpoint does not fit onto the disk, and remove its folder if nothing was done in it.

    Return a sentence if not all checkpoints fit that the run keeps, or else "".

    Raises:
        InputError: not even one checkpoint fits.
    """
    one, run = checkpoint_bytes(model, recipe.optimizer), recipe.run
    snapshots = 0 if bare(model).base else run.snapshots * 4 * bare(model).parameters_count
    missing, few = map(world.tell, disk_problem(folder, one, run.keep_last, snapshots))
    if missing:
        if world.leads and {file.name for file in folder.iterdir()} <= {"config.toml", LOCK}:
            shutil.rmtree(folder, ignore_errors=True)
        raise InputError(missing)
    return few


@contextmanager
def memory_refusals(recipe: Recipe) -> Iterator[None]:
    """Turn an out-of-memory error into an InputError that says what would need less memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        half, twice = max(1, recipe.run.batch // 2), 2 * recipe.run.accumulate
        raise InputError(
            f"Memory ran out with batch {recipe.run.batch} and context {recipe.model.context}; --batch {half} with "
            f"--accumulate {twice} needs less, and so does a smaller model. Saved checkpoints are kept."
        ) from error
