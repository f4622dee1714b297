"""GPT-2's smallest: 124M parameters, context 1,024, half a million tokens a step, for a GPU and a large text."""

PRESET = {
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
}
