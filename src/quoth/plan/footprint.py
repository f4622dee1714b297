"""The memory that a training step takes at its peak, computed from a model's shape."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from quoth.model.config import GPTConfig
from quoth.model.gpt import GPT
from quoth.model.meta import on_meta
from quoth.system.errors import InputError

# Activations take more than what is kept: a layer's backward pass holds tensors for a moment, and memory fragments.
OVERHEAD = 1.5
# A compiled step keeps less, since it computes cheap tensors again.
COMPILED_SHARE = 0.6


@dataclass(frozen=True)
class Memory:
    """The bytes of each part of a training step on one device.

    `working` is what the optimizer holds for a moment, after activations and logits have been freed. `cache` is no part
    of training: a window's keys and values when the model generates.
    """

    weights: int
    gradients: int
    optimizer: int
    working: int
    activations: int
    logits: int
    cache: int

    @property
    def peak(self) -> int:
        return self.weights + self.gradients + self.optimizer + max(self.working, self.activations + self.logits)


def memory(
    c: GPTConfig,
    batch: int,
    *,
    dtype_bytes: int = 2,
    written_out: bool = False,
    optimizer: str = "muon",
    compiled: bool = False,
    shards: int = 1,
    recompute: bool = False,
) -> Memory:
    """The memory of a step of `batch` windows, which is within 30% of what small runs were measured to take.

    Weights are float32, and are copied to bfloat16 where that is the number type. AdamW keeps two numbers a parameter.
    Muon keeps one for each parameter of the matrices inside blocks, and two for each other one. With `written_out`
    attention keeps its scores. With `shards` devices each holds its share of weights, gradients and optimizer, and for
    a moment a block's whole weights. With `recompute` each block keeps its input only, and what else a backward pass
    needs is held for one block at a time.
    """
    count, outside = parameters(c), parameters(c.replace(layers=0))
    kept = 2 * count if optimizer == "adamw" else count + outside
    # Copies in the number type; of a sharded model those of a block, and of what is outside of blocks.
    copies = 2 * count if dtype_bytes == 2 and shards == 1 else 0
    if shards > 1:
        copies = dtype_bytes * (outside + (count - outside) // max(1, c.layers))
    # Logits in the number type and in float32, their log-softmax, and the gradients of both.
    logits = batch * c.context * c.vocabulary * (16 if dtype_bytes == 4 else 20)
    window = window_bytes(c, dtype_bytes, written_out, compiled=compiled)
    if recompute and c.layers:
        window = window_bytes(c.replace(layers=1), dtype_bytes, written_out, compiled=compiled)
        window += 4 * c.layers * c.width * c.context
    return Memory(
        weights=4 * count // shards + copies,
        gradients=4 * count // shards,
        optimizer=4 * kept // shards,
        working=24 * (count - outside) if optimizer == "muon" else 0,
        activations=batch * window,
        logits=logits,
        cache=2 * dtype_bytes * c.layers * c.kv_heads * c.head_size * c.context,
    )


def largest_batch(c: GPTConfig, available: float, **how: Any) -> int:
    """The most windows whose step fits into `available` bytes, or 0 if not even one does. `how` goes to `memory`."""
    one = memory(c, 1, **how)
    window = one.activations + one.logits
    lasting = one.weights + one.gradients + one.optimizer
    return 0 if lasting + one.working > available else int((available - lasting) // window)


def window_bytes(c: GPTConfig, dtype_bytes: int, written_out: bool, *, compiled: bool) -> int:
    """The bytes that one window's forward pass keeps for its backward pass, without logits and their gradients."""
    queries, keys = c.heads * c.head_size, c.kv_heads * c.head_size
    # The residual stream and what norms keep are float32 whatever the number type.
    wide = 2 * c.width * (2 if c.norm == "rmsnorm" else 1)
    if c.qk_norm:
        wide += (queries + keys) * (1 if dtype_bytes == 4 else 2)
    narrow = 2 * c.width + 3 * queries + 4 * keys + c.hidden * (4 if c.mlp == "swiglu" else 2)
    layer = OVERHEAD * (4 * wide + dtype_bytes * narrow)
    scores = c.heads * c.context * (4 if dtype_bytes == 4 else 6) if written_out else 0
    if c.dropout and c.dropout_shape == "element":
        layer, scores = layer + (2 + 2 * dtype_bytes) * c.width, 2 * scores
    share = COMPILED_SHARE if compiled else 1.0
    return int(c.context * share * (c.layers * (layer + scores) + 4 * scores))


def parameters(config: GPTConfig) -> int:
    """How many numbers a model of this shape trains, without making them. All blocks have as many.

    Raises:
        InputError: they are too many for torch to count.
    """
    none, one = (_parameters(config.replace(layers=layers)) for layers in (0, 1))
    return none + config.layers * (one - none)


@cache
def _parameters(config: GPTConfig) -> int:
    try:
        with on_meta():
            return GPT(config).parameters_count
    except RuntimeError as error:
        raise InputError(
            f"No computer can hold a model of width {config.width:,} with {config.heads:,} heads of "
            f"{config.head_size:,}, {config.hidden:,} hidden units and a context of {config.context:,}."
        ) from error
