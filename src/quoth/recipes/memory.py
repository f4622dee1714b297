"""What a training step holds in memory at its peak, and whether that is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from quoth.model.config import GPTConfig
from quoth.model.gpt import GPT
from quoth.recipes.recipe import Recipe
from quoth.system.device import Hardware
from quoth.system.errors import InputError

# Memory that is freed in pieces of other sizes than are wanted next, and what one layer's backward pass holds besides.
OVERHEAD = 1.5


def step_bytes(
    config: GPTConfig,
    batch: int,
    context: int,
    dtype_bytes: int,
    attention_written_out: bool,
    *,
    optimizer: str = "muon",
) -> int:
    """About how many bytes a step of `batch` windows needs without torch.compile, which needs less.

    Weights, gradients and the optimizer's state, and then the larger of what Muon holds while it works and what the
    forward pass keeps for the backward one. Within 30% of what small runs were measured to take.
    """
    c, tokens = config, batch * context
    queries, keys = c.heads * c.head_size, c.kv_heads * c.head_size
    # The residual stream and what norms keep are float32 whatever the type.
    wide = 2 * c.width * (2 if c.norm == "rmsnorm" else 1)
    if c.qk_norm:
        wide += (queries + keys) * (1 if dtype_bytes == 4 else 2)
    narrow = 2 * c.width + 3 * queries + 4 * keys + c.hidden * (4 if c.mlp == "swiglu" else 2)
    layer = OVERHEAD * (4 * wide + dtype_bytes * narrow)
    scores = c.heads * context * (4 if dtype_bytes == 4 else 6) if attention_written_out else 0
    if c.dropout and c.dropout_shape == "element":
        layer, scores = layer + (2 + 2 * dtype_bytes) * c.width, scores * 2
    # Logits, as float32, their logarithms of probabilities, and the gradients of both.
    logits = c.vocabulary * (16 if dtype_bytes == 4 else 20)
    kept = tokens * (c.layers * (layer + scores) + 4 * scores + logits)
    count = parameters(c)
    return int(16 * count + max(kept, 24 * count if optimizer == "muon" else 0))


def largest_batch(
    config: GPTConfig,
    context: int,
    dtype_bytes: int,
    attention_written_out: bool,
    available: int,
    *,
    optimizer: str = "muon",
) -> int:
    """The most windows whose step fits into `available` bytes; 0 where not even one does."""

    def fits(batch: int) -> bool:
        return step_bytes(config, batch, context, dtype_bytes, attention_written_out, optimizer=optimizer) <= available

    low, high = 0, 1
    while fits(high):
        low, high = high, 2 * high
        if high > 2**30:
            return low
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def parameters(config: GPTConfig) -> int:
    """How many numbers a model of this shape trains, without making them."""
    with torch.device("meta"):
        return GPT(config).parameters_count


def available_bytes(device: str) -> int | None:
    """What can still be had on a device, a container's limit included; None where the system does not tell."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    if device != "cpu":
        return None
    found = [memory_info().get("MemAvailable"), _left_in_group()]
    return min((n for n in found if n is not None), default=None)


def memory_info() -> dict[str, int]:
    """Linux's account of its memory, in bytes; empty elsewhere."""
    with suppress(OSError, ValueError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return {name: 1024 * int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
    return {}


def _left_in_group(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What a container's limit leaves. Files that were read can be forgotten, so their pages count as free."""
    for limit, usage in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):
            most, used = int((root / limit).read_text()), int((root / usage).read_text())
            statistics = ((root / limit).parent / "memory.stat").read_text().split()
            files = dict(zip(statistics[::2], statistics[1::2], strict=False))
            return most - used + int(files.get("inactive_file", 0)) if most < 2**60 else None
    return None


def check_memory(recipe: Recipe, hardware: Hardware) -> None:
    """Refuse a run whose step cannot fit, before anything is made.

    Raises:
        InputError: it does not fit; names the batch that would.
    """
    available = available_bytes(hardware.device)
    if available is None:
        return
    config, batch = recipe.model, recipe.run.batch
    dtype_bytes = 2 if hardware.dtype == "bfloat16" else 4
    written_out = hardware.device == "cpu" and config.context <= 512
    optimizer = recipe.optimizer.optimizer
    need = step_bytes(config, batch, config.context, dtype_bytes, written_out, optimizer=optimizer)
    if need <= available:
        return
    fits = largest_batch(config, config.context, dtype_bytes, written_out, available, optimizer=optimizer)
    if fits:
        same = f" (with --accumulate {-(-recipe.run.batch * recipe.run.accumulate // fits)} for as many windows a step)"
        advice = f"--batch {fits} would fit{same}"
    else:
        advice = "not even a batch of 1 fits, so take fewer --layers, less --width or a shorter --context"
    raise InputError(
        f"A step of batch {batch} needs about {size(need)} of memory, but {size(available)} are free: {advice}."
    )


@contextmanager
def memory_refusals(recipe: Recipe) -> Iterator[None]:
    """Turn running out of memory into a sentence."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if (
            type(error) is RuntimeError
            and "allocate memory" not in str(error)
            and "not enough memory" not in str(error)
        ):
            raise
        if not isinstance(error, RuntimeError | MemoryError):
            raise
        half = max(1, recipe.run.batch // 2)
        raise InputError(
            f"Memory ran out with batch {recipe.run.batch} and context {recipe.model.context}; try --batch {half} with "
            f"--accumulate {2 * recipe.run.accumulate}, a shorter --context or a smaller model. Saved checkpoints are kept."
        ) from error


def size(count: float) -> str:
    """Bytes as a person says them.

    >>> size(1_500_000_000), size(96_000_000)
    ('1.5 GB', '96 MB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
