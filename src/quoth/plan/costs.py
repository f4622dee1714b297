"""What training costs: FLOPs, counted from a model's shape, and seconds, computed from FLOPs."""

from __future__ import annotations

from quoth.model.config import GPTConfig
from quoth.plan.devices import Device
from quoth.plan.footprint import parameters

# A given number of FLOPs is best spent at this many tokens a parameter (Hoffmann et al. 2022, arXiv:2203.15556).
OPTIMAL_TOKENS = 20
# The share of a device's FLOP/s that training reaches; Llama 3's 405B reached 38% to 43% (arXiv:2407.21783, table 4).
UTILIZATION = 0.4


def flops_per_token(c: GPTConfig) -> int:
    """FLOPs that training takes a token: 6 N for N parameters, 2 N forward and 4 N backward.

    That is how papers count, without attention's scores (Hoffmann et al. 2022, arXiv:2203.15556).
    """
    return 6 * parameters(c)


def attention_flops_per_token(c: GPTConfig) -> int:
    """FLOPs a token of attention's scores and weighted sums over a whole context: 12 L H K T.

    The count is that of Chowdhery et al. 2022 (arXiv:2204.02311).
    """
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
    """Seconds that a step of `tokens` takes on `count` devices, each at the share `utilization` of its FLOP/s.

    With `recompute` the forward pass is made twice, so that a step takes a third longer.
    """
    each = (flops_per_token(c) + attention_flops_per_token(c)) * (4 / 3 if recompute else 1)
    return tokens * each / (count * device.flops * utilization)
