"""Presets, the dial, and the run that they start."""
