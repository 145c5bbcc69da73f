"""Limits of worker processes, which can be killed; a thread cannot."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Of a worker process. A text with a hundred thousand references to one long URL needs gigabytes.
MEMORY_BYTES = 2 * 1024**3
# Of the work on one text, however busy the machine is.
CPU_SECONDS = 3
# The processes that answer requests have the cores first.
NICENESS = 5


@contextmanager
def limited_resources(memory_bytes: int, cpu_seconds: int) -> Iterator[None]:
    """Limit the CPU time of the work in this block, and for good the memory of this process.

    Its priority becomes low for good too.
    """
    if sys.platform == "win32":
        yield
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    # Kills this process even if the process that would kill it is gone.
    spent = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    _, hard_limit = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (spent + cpu_seconds, hard_limit))
    try:
        yield
    finally:
        # Otherwise what is left would have to do for receiving the next work.
        resource.setrlimit(resource.RLIMIT_CPU, (hard_limit, hard_limit))
