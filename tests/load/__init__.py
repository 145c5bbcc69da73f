"""What the service costs, next to other ways of writing the same: `python -m tests.load`."""
