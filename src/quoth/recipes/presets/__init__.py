"""One small file a preset: what it fixes; the dial decides the rest."""

from __future__ import annotations

from typing import Any

from quoth.recipes.presets import gpt2, gpu, laptop, lecture, nanogpt_cpu

PRESETS: dict[str, dict[str, Any]] = {
    "laptop": laptop.PRESET,
    "gpu": gpu.PRESET,
    "gpt2": gpt2.PRESET,
    "lecture": lecture.PRESET,
    "nanogpt-cpu": nanogpt_cpu.PRESET,
}
