"""The speed and memory of GPUs, from NVIDIA's data sheets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """A GPU.

    Attributes:
        name: the name that NVIDIA sells it by.
        flops: the FLOP/s of dense matrix products in bfloat16, or in float16 on a GPU without bfloat16.
        memory: its memory in bytes.
    """

    name: str
    flops: float
    memory: float


# FLOP/s without sparsity are half of the number that is often quoted.
DEVICES = {
    "t4": Device("NVIDIA T4", 65e12, 16e9),
    "v100": Device("NVIDIA V100 SXM2 32 GB", 125e12, 32e9),
    "l4": Device("NVIDIA L4", 121e12, 24e9),
    "rtx3090": Device("NVIDIA RTX 3090", 71e12, 24e9),
    "rtx4090": Device("NVIDIA RTX 4090", 165e12, 24e9),
    "a100": Device("NVIDIA A100 SXM 80 GB", 312e12, 80e9),
    "h100": Device("NVIDIA H100 SXM", 989e12, 80e9),
    "h200": Device("NVIDIA H200 SXM", 989e12, 141e9),
    "b200": Device("NVIDIA B200", 2250e12, 180e9),
}
