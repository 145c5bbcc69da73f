"""Limits of worker processes, which can be killed; a thread cannot."""

import sys

# Of a worker process. A text with a hundred thousand references to one long URL needs gigabytes.
MEMORY_BYTES = 2 * 1024**3


def limit_resources(memory_bytes: int, cpu_seconds: int) -> None:
    """Limit the memory of this process, and the CPU time of the work that begins now."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        # Kills this process even if the process that would kill it is gone.
        spent = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
        _, hard_limit = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (spent + cpu_seconds, hard_limit))
