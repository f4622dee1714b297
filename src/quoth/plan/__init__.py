"""Predicts what a run will take: parameters, FLOPs, memory and time."""
