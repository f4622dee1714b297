"""The settings that each preset fixes; the dial decides the rest. To add a preset, add an entry here."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # Three minutes on any computer.
    "laptop": {"minutes": 3.0},
    # The lecture's scaled-up shape with better parts, for one GPU: 6 layers of width 384, context 256, five minutes.
    "gpu": {
        "minutes": 5.0,
        "layers": 6,
        "width": 384,
        "context": 256,
        "batch": 64,
        "dropout": 0.2,
        "learning_rate": 0.02,
        "weight_decay": 0.1,
    },
    # The smallest GPT-2: 124M parameters, context 1,024, half a million tokens a step, for a GPU and a large text.
    "gpt2": {
        "family": "gpt2",
        "tokenizer": "gpt2",
        "steps": 19_000,
        "layers": 12,
        "width": 768,
        "heads": 12,
        "context": 1024,
        "batch": 32,
        "accumulate": 16,
        "dropout": 0.0,
        "optimizer": "adamw",
        "learning_rate": 6e-4,
        "embedding_learning_rate": 6e-4,
        "weight_decay": 0.1,
        "clip": 1.0,
        "warmup": 0.04,
        "cooldown": 0.96,
    },
    # The lecture's last script: 6 layers of width 384, context 256, dropout 0.2, AdamW at 3e-4 for 5,000 steps.
    "lecture": {
        "family": "lecture",
        "steps": 5000,
        "layers": 6,
        "width": 384,
        "heads": 6,
        "context": 256,
        "batch": 64,
        "dropout": 0.2,
        "optimizer": "adamw",
        "learning_rate": 3e-4,
        "embedding_learning_rate": 3e-4,
        "weight_decay": 0.01,
        "beta2": 0.999,
        "warmup": 0.0,
        "cooldown": 0.0,
    },
    # nanoGPT's recipe for a CPU, for comparison: 4 layers of width 128, 12 windows of 64 tokens, 2,000 steps of AdamW.
    "nanogpt-cpu": {
        "family": "gpt2",
        "steps": 2000,
        "layers": 4,
        "width": 128,
        "heads": 4,
        "context": 64,
        "batch": 12,
        "dropout": 0.0,
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "embedding_learning_rate": 1e-3,
        "weight_decay": 0.1,
        "beta2": 0.99,
        "clip": 1.0,
        "warmup": 0.05,
        "cooldown": 0.95,
    },
}
