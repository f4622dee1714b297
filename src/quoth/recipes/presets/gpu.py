"""The lecture's scaled-up shape and better, for one GPU: 6 layers of 384, context 256, five minutes."""

PRESET = {
    "minutes": 5.0,
    "layers": 6,
    "width": 384,
    "context": 256,
    "batch": 64,
    "dropout": 0.2,
    "learning_rate": 0.02,
    "weight_decay": 0.1,
}
