"""What a run takes on GPUs of `devices.DEVICES`, computed from its shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quoth.model.config import GPTConfig
from quoth.plan.costs import (
    OPTIMAL_TOKENS,
    UTILIZATION,
    attention_flops_per_token,
    flops_per_token,
    step_seconds,
)
from quoth.plan.devices import Device
from quoth.plan.footprint import Memory, largest_batch, memory, parameters

# The share of a device's memory that is left by its driver and by fragmentation.
HEADROOM = 0.92


@dataclass(frozen=True)
class Prediction:
    """What a run takes. `memory`, `memory_bytes`, `largest_batch` and `batch` are those of one device.

    `flops` are those of the whole run on all devices, counted as papers count them.
    """

    parameters: int
    flops_per_token: int
    attention_flops_per_token: int
    flops: float
    memory: Memory
    memory_bytes: int
    fits: bool
    largest_batch: int
    batch: int
    sharded: bool
    tokens: float
    tokens_per_step: int
    steps: float
    step_seconds: float
    seconds: float
    compute_optimal_tokens: float


def predict(
    c: GPTConfig,
    device: Device,
    count: int = 1,
    *,
    tokens: float = 0.0,
    batch: int = 0,
    accumulate: int = 1,
    optimizer: str = "adamw",
    shard: bool = False,
    recompute: bool = False,
    utilization: float = UTILIZATION,
) -> Prediction:
    """What a run on `count` devices takes.

    `tokens` of 0 stand for the number that is best for the model's size, and a `batch` of 0, a device's microbatch, for
    the largest that fits. Where not even one window fits, the model is sharded over the devices.
    """
    room = HEADROOM * device.memory
    how: dict[str, Any] = {"optimizer": optimizer, "compiled": True, "recompute": recompute}
    if not shard and count > 1 and not largest_batch(c, room, **how):
        shard = True
    how["shards"] = count if shard else 1
    largest = largest_batch(c, room, **how)
    batch = batch or max(1, largest)
    held, each = memory(c, batch, **how), parameters(c)
    tokens_per_step = batch * accumulate * c.context * count
    tokens = tokens or OPTIMAL_TOKENS * each
    took = step_seconds(c, tokens_per_step, device, count, utilization, recompute=recompute)
    return Prediction(
        parameters=each,
        flops_per_token=flops_per_token(c),
        attention_flops_per_token=attention_flops_per_token(c),
        flops=tokens * flops_per_token(c),
        memory=held,
        memory_bytes=held.peak,
        fits=held.peak <= room,
        largest_batch=largest,
        batch=batch,
        sharded=shard,
        tokens=tokens,
        tokens_per_step=tokens_per_step,
        steps=tokens / tokens_per_step,
        step_seconds=took,
        seconds=took * tokens / tokens_per_step,
        compute_optimal_tokens=OPTIMAL_TOKENS * each,
    )
