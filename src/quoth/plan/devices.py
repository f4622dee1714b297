"""What devices can do, by their makers' data sheets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """FLOP/s of dense bfloat16 products (float16 where there is no bfloat16), bytes of memory, and bytes a second."""

    name: str
    flops: float
    memory: float
    bandwidth: float


# NVIDIA's data sheets; the FLOP/s are those without sparsity, half of what is often quoted.
DEVICES = {
    "t4": Device("NVIDIA T4", 65e12, 16e9, 0.32e12),
    "v100": Device("NVIDIA V100 SXM2 32 GB", 125e12, 32e9, 0.9e12),
    "l4": Device("NVIDIA L4", 121e12, 24e9, 0.3e12),
    "rtx3090": Device("NVIDIA RTX 3090", 71e12, 24e9, 0.936e12),
    "rtx4090": Device("NVIDIA RTX 4090", 165e12, 24e9, 1.008e12),
    "a100": Device("NVIDIA A100 SXM 80 GB", 312e12, 80e9, 2.04e12),
    "h100": Device("NVIDIA H100 SXM", 989e12, 80e9, 3.35e12),
    "h200": Device("NVIDIA H200 SXM", 989e12, 141e9, 4.8e12),
    "b200": Device("NVIDIA B200", 2250e12, 180e9, 7.7e12),
}
