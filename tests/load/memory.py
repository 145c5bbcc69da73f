"""The part `memory`: how long a start takes, and what a server holds once its cache is full."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from blog_api.cli.console import progress
from blog_api.core.settings import Settings
from tests.load.bench import Bench
from tests.load.contenders import Contender, Running, client_of, ours
from tests.load.data import Size
from tests.load.machine import memory_bytes
from tests.load.parts import other_readers

# A little more than the cache holds, and this many posts; the rest are long lists.
FILL = 1.25
POSTS = 2_000
FILL_QUICKLY = 4 * 1024 * 1024
STEP_BYTES = 1024 * 1024

IMPORT = """
import sys, time
start = time.perf_counter()
import blog_api.app
print(time.perf_counter() - start, len(sys.modules))
"""


@dataclass(frozen=True)
class Held:
    """What a server takes of time and memory."""

    contender: str
    start_seconds: float
    bytes_at_start: int
    bytes_at_end: int
    answers: int


def paths(size: Size) -> Iterator[str]:
    """Of answers that are all different."""
    posts = (f"/posts/{post_id}" for post_id in range(1, min(size.posts, POSTS) + 1))
    pages = (
        f"/posts?page={page}&size={length}"
        for length in range(100, 10, -1)
        for page in range(1, size.posts // length + 1)
    )
    return chain(posts, pages)


def fill(running: Running, size: Size, wanted: int) -> int:
    """Let a server make so many bytes of answers; returns how many answers those are.

    On one connection after the other, so that each of several workers gets some.
    """
    made = answers = told = 0
    title = f"memory: {running.contender.name}"
    with progress(title, wanted // STEP_BYTES) as step, client_of(running, kept=0) as client:
        for path in paths(size):
            answer = client.get(path).raise_for_status()
            made += len(answer.content)
            answers += 1
            while told < wanted // STEP_BYTES and made >= (told + 1) * STEP_BYTES:
                told += 1
                step()
            if made >= wanted:
                break
    return answers


def measure_held(bench: Bench, contender: Contender, size: Size, wanted: int) -> Held:
    starts = []
    for _ in range(bench.options.rounds - 1):
        with bench.new(contender) as running:
            starts.append(running.start_seconds)
    with bench.new(contender) as running:
        starts.append(running.start_seconds)
        at_start = memory_bytes(running.pid)
        answers = fill(running, size, wanted)
        at_end = memory_bytes(running.pid)
        return Held(contender.name, min(starts), at_start, at_end, answers)


def measure_memory(bench: Bench) -> list[Held]:
    """How long it takes to the first answer (the fastest of as many starts as there are rounds:
    what else the machine does can only add), and what all processes of a server hold in memory
    then, and after more answers than a cache keeps."""
    size = bench.options.small
    loaded = bench.postgres(size)
    cache_bytes = Settings.model_fields["cache_bytes"].default
    wanted = FILL_QUICKLY if bench.options.quick else int(FILL * cache_bytes)
    measured = [
        (ours(loaded), wanted),
        (ours(loaded, workers=2), 2 * wanted),
        (ours(loaded, cache=False), wanted),
        *((contender, wanted) for contender in other_readers(bench, loaded)),
    ]
    found = [measure_held(bench, contender, size, much) for contender, much in measured]
    words = subprocess.run(
        [sys.executable, "-c", IMPORT],
        cwd=bench.options.folder,
        env=dict(measured[0][0].variables),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    bench.note(f"memory: `import blog_api.app` takes {float(words[0]):.2f} s, {words[1]} modules.")
    return found
