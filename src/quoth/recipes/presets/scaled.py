"""The lecture's last step, scaling up, for the computer you have: its model family, in minutes."""

PRESET = {"family": "lecture", "minutes": 3.0, "init": "zero", "dropout_shape": "channel"}
