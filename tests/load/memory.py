"""The part `memory`: the start time of a server, and its memory when its cache is full."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from blog_api.cli.console import progress
from blog_api.core.settings import Settings
from tests.load.available import other_readers
from tests.load.bench import Bench
from tests.load.contenders import Contender, Running, blog_api, client_of
from tests.load.data import Size
from tests.load.machine import memory_bytes

# Request more than fits into the cache: this many posts, then long lists.
FILL_RATIO = 1.25
POSTS = 2_000
QUICK_FILL_BYTES = 4 * 1024 * 1024
STEP_BYTES = 1024 * 1024

IMPORT = """
import sys, time
start = time.perf_counter()
import blog_api.app
print(time.perf_counter() - start, len(sys.modules))
"""


@dataclass(frozen=True)
class MemoryUse:
    """The start time and the memory of a server."""

    contender: str
    start_seconds: float
    bytes_at_start: int
    bytes_at_end: int
    responses: int


def list_paths(size: Size) -> Iterator[str]:
    """Yield paths of different responses."""
    posts = (f"/posts/{post_id}" for post_id in range(1, min(size.posts, POSTS) + 1))
    pages = (
        f"/posts?page={page}&size={length}"
        for length in range(100, 10, -1)
        for page in range(1, size.posts // length + 1)
    )
    return chain(posts, pages)


def request_bytes(running: Running, size: Size, wanted: int) -> int:
    """Request this many bytes of responses; return the number of responses.

    Each request has a new connection, so that all workers receive some.
    """
    received = responses = steps = 0
    title = f"memory: {running.contender.name}"
    with (
        progress(title, wanted // STEP_BYTES) as step,
        client_of(running, max_keepalive=0) as client,
    ):
        for path in list_paths(size):
            response = client.get(path).raise_for_status()
            received += len(response.content)
            responses += 1
            while steps < wanted // STEP_BYTES and received >= (steps + 1) * STEP_BYTES:
                steps += 1
                step()
            if received >= wanted:
                break
    return responses


def measure_server(bench: Bench, contender: Contender, size: Size, wanted: int) -> MemoryUse:
    starts = []
    for _ in range(bench.options.rounds - 1):
        with bench.make_server(contender) as running:
            starts.append(running.start_seconds)
    with bench.make_server(contender) as running:
        starts.append(running.start_seconds)
        at_start = memory_bytes(running.pid)
        responses = request_bytes(running, size, wanted)
        at_end = memory_bytes(running.pid)
        return MemoryUse(contender.name, min(starts), at_start, at_end, responses)


def measure_memory(bench: Bench) -> list[MemoryUse]:
    """The time to the first response (the fastest of several starts, since other work can only
    add to it), and the memory of all processes of a server then and after more responses than
    its cache holds."""
    size = bench.options.small
    loaded = bench.postgres(size)
    cache_bytes = Settings.model_fields["cache_bytes"].default
    wanted = QUICK_FILL_BYTES if bench.options.quick else int(FILL_RATIO * cache_bytes)
    measured = [
        (blog_api(loaded), wanted),
        (blog_api(loaded, workers=2), 2 * wanted),
        (blog_api(loaded, cache=False), wanted),
        *((contender, wanted) for contender in other_readers(bench, loaded)),
    ]
    uses = [measure_server(bench, contender, size, count) for contender, count in measured]
    seconds, modules = subprocess.run(
        [sys.executable, "-c", IMPORT],
        cwd=bench.options.folder,
        env=dict(measured[0][0].variables),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    bench.add_note(
        f"memory: `import blog_api.app` takes {float(seconds):.2f} s, {modules} modules."
    )
    return uses
