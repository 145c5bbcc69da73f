"""Benchmark of the service and of other implementations: `python -m tests.load`."""
