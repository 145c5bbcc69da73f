"""Limits of worker processes, which can be killed; a thread cannot."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Of a worker process. A text with a hundred thousand references to one long URL needs gigabytes.
MEMORY_BYTES = 2 * 1024**3


@contextmanager
def limited_resources(memory_bytes: int, cpu_seconds: int) -> Iterator[None]:
    """Limit the memory of this process for good, and the CPU time of the work in this block."""
    if sys.platform == "win32":
        yield
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    # Kills this process even if the process that would kill it is gone.
    spent = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    _, hard_limit = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (spent + cpu_seconds, hard_limit))
    try:
        yield
    finally:
        # Otherwise what is left would have to do for receiving the next work.
        resource.setrlimit(resource.RLIMIT_CPU, (hard_limit, hard_limit))
