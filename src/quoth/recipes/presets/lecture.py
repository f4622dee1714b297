"""The lecture's last script: 6 layers of 384, context 256, dropout 0.2, AdamW at 3e-4 for 5,000 steps."""

PRESET = {
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
}
