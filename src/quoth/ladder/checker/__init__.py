"""Checking exercises: what learners wrote runs in a process of its own, and its results are judged."""
