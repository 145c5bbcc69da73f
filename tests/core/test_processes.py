"""Limits of worker processes."""

import sys

import anyio.to_process
import pytest

from blog_api.core.processes import MEMORY_BYTES, limited_resources


def read_cpu_limits() -> list[tuple[int, int]]:
    """Return the soft and the hard limit of the CPU time within the block and after it."""
    import resource

    with limited_resources(MEMORY_BYTES, 3):
        within = resource.getrlimit(resource.RLIMIT_CPU)
    return [within, resource.getrlimit(resource.RLIMIT_CPU)]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limits of resources")
async def test_the_limit_of_the_cpu_time_ends_with_the_work():
    (soft, hard), after = await anyio.to_process.run_sync(read_cpu_limits)

    assert soft != hard
    assert after == (hard, hard)
