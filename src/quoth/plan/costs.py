"""What a training run costs: FLOPs by counting, and seconds from these."""

from __future__ import annotations

from quoth.model.config import GPTConfig
from quoth.plan.devices import Device
from quoth.plan.footprint import parameters

# Tokens a parameter at which a given number of FLOPs is best spent (Hoffmann et al. 2022, arXiv:2203.15556).
OPTIMAL_TOKENS = 20
# The share of a device's FLOP/s that training reaches; Llama 3's 405B reached 38% to 43% (arXiv:2407.21783, table 4).
UTILIZATION = 0.4


def flops_per_token(c: GPTConfig) -> int:
    """6 N: 2 FLOPs a parameter forward and 4 backward, as papers count (Hoffmann et al. 2022, arXiv:2203.15556)."""
    return 6 * parameters(c)


def attention_flops_per_token(c: GPTConfig) -> int:
    """12 L H K T, for scores and weighted sums over a whole context (Chowdhery et al. 2022, arXiv:2204.02311)."""
    return 12 * c.layers * c.heads * c.head_size * c.context


def step_seconds(
    c: GPTConfig,
    tokens: float,
    device: Device,
    count: int,
    utilization: float = UTILIZATION,
    *,
    recompute: bool = False,
) -> float:
    """Of a step of so many tokens on `count` devices that reach this share of what they can do.

    With `recompute` the forward pass is made twice, which is no part of the FLOPs that are counted.
    """
    each = (flops_per_token(c) + attention_flops_per_token(c)) * (4 / 3 if recompute else 1)
    return tokens * each / (count * device.flops * utilization)
