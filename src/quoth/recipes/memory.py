"""What a training step holds in memory at its peak, and whether that much is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

from quoth.model.config import GPTConfig
from quoth.model.gpt import GPT
from quoth.recipes.recipe import Recipe
from quoth.system.device import Hardware
from quoth.system.errors import InputError

# What a layer's backward pass holds for a moment, and freed memory in pieces that fit nothing.
OVERHEAD = 1.5
# A compiled step keeps less, since it makes cheap things anew.
COMPILED_SHARE = 0.6


def step_bytes(
    config: GPTConfig,
    batch: int,
    context: int,
    dtype_bytes: int,
    attention_written_out: bool,
    *,
    optimizer: str = "muon",
    compiled: bool = False,
) -> int:
    """About how many bytes a step of `batch` windows needs, within 30% of what small runs were measured to take.

    Weights, gradients and the optimizer's state; and then the larger of what Muon holds while it works and what the
    forward pass keeps for the backward one.
    """
    window = window_bytes(config, context, dtype_bytes, attention_written_out, compiled=compiled)
    lasting, passing = weight_bytes(config, optimizer)
    return lasting + max(batch * window, passing)


def largest_batch(
    config: GPTConfig,
    context: int,
    dtype_bytes: int,
    attention_written_out: bool,
    available: int,
    *,
    optimizer: str = "muon",
    compiled: bool = False,
) -> int:
    """The most windows whose step fits into `available` bytes; 0 where not even one does."""
    lasting, passing = weight_bytes(config, optimizer)
    if lasting + passing > available:
        return 0
    return (available - lasting) // window_bytes(config, context, dtype_bytes, attention_written_out, compiled=compiled)


def window_bytes(c: GPTConfig, context: int, dtype_bytes: int, attention_written_out: bool, *, compiled: bool) -> int:
    """What the forward pass of one window keeps for its backward pass."""
    queries, keys = c.heads * c.head_size, c.kv_heads * c.head_size
    # The residual stream and what norms keep are float32 whatever the number type.
    wide = 2 * c.width * (2 if c.norm == "rmsnorm" else 1)
    if c.qk_norm:
        wide += (queries + keys) * (1 if dtype_bytes == 4 else 2)
    narrow = 2 * c.width + 3 * queries + 4 * keys + c.hidden * (4 if c.mlp == "swiglu" else 2)
    layer = OVERHEAD * (4 * wide + dtype_bytes * narrow)
    scores = c.heads * context * (4 if dtype_bytes == 4 else 6) if attention_written_out else 0
    if c.dropout and c.dropout_shape == "element":
        layer, scores = layer + (2 + 2 * dtype_bytes) * c.width, 2 * scores
    # Logits in the number type and in float32, their log-softmax, and the gradients of both.
    logits = c.vocabulary * (16 if dtype_bytes == 4 else 20)
    share = COMPILED_SHARE if compiled else 1.0
    return int(context * (share * (c.layers * (layer + scores) + 4 * scores) + logits))


def weight_bytes(config: GPTConfig, optimizer: str) -> tuple[int, int]:
    """What weights, gradients and the optimizer's state take for good, and what its step takes besides."""
    count = parameters(config)
    return 16 * count, 24 * count if optimizer == "muon" else 0


@cache
def parameters(config: GPTConfig) -> int:
    """How many numbers a model of this shape trains, without making them."""
    with torch.device("meta"):
        return GPT(config).parameters_count


def check_memory(recipe: Recipe, hardware: Hardware) -> None:
    """Refuse a run whose step cannot fit, before anything is made.

    Raises:
        InputError: it does not fit; the message names the batch that would.
    """
    available = available_bytes(hardware.device)
    if available is None:
        return
    c, run = recipe.model, recipe.run
    dtype_bytes = 2 if hardware.dtype == "bfloat16" else 4
    written_out = hardware.device == "cpu" and c.context <= 512
    how: dict[str, Any] = {"optimizer": recipe.optimizer.optimizer, "compiled": hardware.compile}
    need = step_bytes(c, run.batch, c.context, dtype_bytes, written_out, **how)
    if need <= available:
        return
    if fits := largest_batch(c, c.context, dtype_bytes, written_out, available, **how):
        times = -(-run.batch * run.accumulate // fits)
        advice = f"--batch {fits} would fit (and --accumulate {times} with it makes as large a step)"
    else:
        advice = "not even a batch of 1 fits, so take less --width, fewer --layers or a shorter --context"
    raise InputError(
        f"A step of batch {run.batch} needs about {size(need)} of memory, but {size(available)} are free: {advice}."
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


def available_bytes(device: str) -> int | None:
    """What can still be had on a device, a container's limit included; None where the system does not tell."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    if device != "cpu":
        return None
    return min((n for n in (memory_info().get("MemAvailable"), left_in_container()) if n is not None), default=None)


def memory_info() -> dict[str, int]:
    """Linux's account of its memory, in bytes; empty elsewhere."""
    with suppress(OSError, ValueError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        pairs = (line.partition(":") for line in lines)
        return {name: 1024 * int(value.split()[0]) for name, _, value in pairs}
    return {}


def left_in_container(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What a container's limit leaves; None where there is no limit. Pages of files that were read count as free."""
    second = ("memory.max", "memory.current")
    first = ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")
    for limit, usage in (second, first):
        with suppress(OSError, ValueError):
            most, used = (int((root / name).read_text(encoding="ascii")) for name in (limit, usage))
            words = ((root / limit).parent / "memory.stat").read_text(encoding="ascii").split()
            files = int(dict(zip(words[::2], words[1::2], strict=False)).get("inactive_file", 0))
            return most - used + files if most < 2**60 else None
    return None


def size(count: float) -> str:
    """Bytes as a person says them.

    >>> size(1_500_000_000), size(96_000_000)
    ('1.5 GB', '96 MB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
