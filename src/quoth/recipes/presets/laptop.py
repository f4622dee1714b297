"""Three minutes on the computer you have: the dial decides the rest."""

PRESET = {"minutes": 3.0}
