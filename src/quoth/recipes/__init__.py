"""Presets and the dial, which choose a run's settings, and the session, which carries the run out."""
