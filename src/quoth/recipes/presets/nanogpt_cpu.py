"""nanoGPT's recipe for a CPU, to be compared with: 4 layers of 128, 12 windows of 64, 2,000 steps of AdamW."""

PRESET = {
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
}
