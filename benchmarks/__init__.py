"""Benchmarks: `python -m benchmarks` lists them. They need a POSIX system, and a quiet one."""
