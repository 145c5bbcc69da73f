"""The parts of the benchmark: contenders and requests of each."""

import json
import random
import subprocess
import sys
from collections.abc import Callable

from blog_api.cli.console import progress
from tests.load import data
from tests.load.available import other_readers, other_writers, rest_frameworks
from tests.load.bench import Bench, Entry
from tests.load.checks import check_create, check_reads, check_total, record_responses
from tests.load.contenders import HERE, Running, bare, blog_api, client_of, tutorial
from tests.load.data import Size
from tests.load.loads import (
    make_anonymous_reads,
    make_bookmark,
    make_comment,
    make_discussion,
    make_mixed_requests,
    make_new_post,
    make_reads,
    make_searches,
)
from tests.load.machine import CORES, LOAD_CORES, pinned
from tests.load.measure import Figures, Load, get
from tests.load.member_parts import (
    compare_loads,
    measure_bookmarks,
    measure_comments,
    measure_discussion,
    measure_page,
    measure_signed_in,
    start_services,
)

# Growth is measured with a single client, for the cost and latency of one request.
ONE_CONNECTION = 1
LOGIN_SECONDS = 60
WORKERS = (1, 2, 4)
QUICK_WORKERS = (1, 2)


def measure_reads(bench: Bench) -> None:
    """Three reads by all contenders, repeated."""
    size = bench.options.small
    loads = make_reads(size)
    on_postgres, on_sqlite = bench.postgres(size), bench.sqlite(size)
    reference = bench.start(blog_api(on_postgres, cache=False))
    responses = bench.options.folder / "responses.json"
    record_responses(reference, loads, responses)
    running = [
        bench.start(contender)
        for contender in (
            bare(responses),
            blog_api(on_postgres),
            blog_api(on_postgres, cache=False),
            blog_api(on_sqlite),
            blog_api(on_sqlite, cache=False),
            *other_readers(bench, on_postgres),
        )
    ]
    for one in running:
        bench.problems += check_reads(reference, one, loads)
    for connections in bench.options.connections:
        for load in loads:
            entries = [Entry(one.contender.name, one, load) for one in running]
            bench.compare("reads", f"{load.name}, {connections} connections", entries, connections)


def measure_create(bench: Bench) -> None:
    """New posts by all contenders that can write."""
    size = bench.options.small
    loaded = bench.postgres(size)
    reference, *own = start_services(bench, size)
    others = [bench.start(contender) for contender in other_writers(bench, loaded)]
    for writer in (reference, *own, *others):
        bench.problems += check_create(writer if writer in own else reference, writer)
    bench.clean()
    load = Load("create", [make_new_post()])
    compare_loads(bench, "create", [reference, *own, *others], [load], writes=True)


def measure_search(bench: Bench) -> None:
    """The search for a word that ten posts have, and for words of more posts. Django REST framework
    uses the full-text search of Postgres with an index, and returns no snippets."""
    size = bench.options.small
    loaded = bench.postgres(size)
    contenders = (
        blog_api(loaded),
        blog_api(loaded, cache=False),
        blog_api(bench.sqlite(size), cache=False),
        *rest_frameworks(bench, loaded),
    )
    loads = make_searches(size)
    with bench.servers(contenders) as running:
        for one in running:
            bench.problems += check_total(running[0], one, loads)
        compare_loads(bench, "search", running, loads)


def growth_loads(running: Running, size: Size, deep_page: int) -> list[Load]:
    middle = data.published_at(size.posts // 2).isoformat()
    with client_of(running) as client:
        half_way = client.get("/posts", params={"until": middle})
    return [
        Load("list", [get("/posts", page=1, size=10)]),
        Load(f"page {deep_page}", [get("/posts", page=deep_page, size=10)]),
        Load("cursor half-way", [get("/posts", cursor=half_way.json()["next_cursor"], size=10)]),
        Load("one post", [get(f"/posts/{size.posts // 2}")]),
        Load("posts of an author", [get("/users/7/posts", page=1, size=10)]),
        Load("posts of a tag", [get("/posts", tag=data.tag_name(7), page=1, size=10)]),
        Load("post, signed in", [get(f"/posts/{size.posts // 2}", data.token_of(2))]),
        *make_searches(size),
        Load("create", [make_new_post()]),
        Load("comment", [make_comment(size.posts // 2, 2)]),
        Load(
            "bookmark",
            [make_bookmark(size.posts // 2, 2, adds=adds) for adds in (True, False)],
        ),
    ]


# Loads of growth that write.
WRITES = {"create", "comment", "bookmark"}


def measure_growth(bench: Bench) -> None:
    """The cost of a request of a single client with few posts and with many, without the cache.
    CPU is that of the server and of Postgres."""
    sizes = bench.options.sizes
    # The page at nine tenths of the smaller list.
    deep_page = sizes[0].posts // 10 * 9 // 10
    entries: list[tuple[str, list[Load], Running]] = []
    for size in sizes:
        for loaded in (bench.postgres(size), bench.sqlite(size)):
            running = bench.start(blog_api(loaded, cache=False))
            database = "SQLite" if loaded.is_sqlite else "Postgres"
            name = f"{database}, {size.name}"
            entries.append((name, growth_loads(running, size, deep_page), running))
    for number, load in enumerate(entries[0][1]):
        entries_of_load = [Entry(name, running, loads[number]) for name, loads, running in entries]
        bench.compare(
            "growth", load.name, entries_of_load, ONE_CONNECTION, writes=load.name in WRITES
        )


def measure_mixed(bench: Bench) -> None:
    """The mix of a normal day: mostly anonymous reads of popular posts and pages."""
    size = bench.options.small
    loaded = bench.postgres(size)
    load = Load("mixed", make_mixed_requests(size))
    contenders = (blog_api(loaded), *bench.baselines(size), tutorial(loaded, "async"))
    entries = [Entry(one.name, bench.start(one), load) for one in contenders]
    for connections in bench.options.connections:
        bench.compare(
            "mixed", f"mixed, {connections} connections", entries, connections, writes=True
        )


def measure_storm(bench: Bench) -> None:
    """Anonymous reads, alone and during many log-ins with correct passwords."""
    options = bench.options
    loaded = bench.postgres(options.small)
    running = bench.start(blog_api(loaded))
    load = Load("reads", make_anonymous_reads(options.small, 2_000, random.Random(1)))
    entry = Entry(running.contender.name, running, load)
    connections = options.connections[0]
    alone: list[Figures] = []
    during_logins: list[Figures] = []
    logins = 0
    with progress("storm", options.rounds) as step:
        if options.warm_up:
            bench.run(entry, connections, options.warm_up)
        for _ in range(options.rounds):
            alone.append(bench.run(entry, connections, options.seconds))
            figures, statuses = with_logins(
                running.url, lambda: bench.run(entry, connections, options.seconds)
            )
            during_logins.append(figures)
            logins += statuses.pop("200", 0)
            if statuses:
                bench.problems.append(f"storm: log-ins return {statuses}")
            step()
    bench.clean_after(entry)
    case = f"reads, {connections} connections"
    bench.add_result("storm", case, "alone", alone)
    bench.add_result("storm", case, f"while {data.LOGINS} clients log in", during_logins)
    bench.add_note(f"storm: {logins} log-ins in {options.rounds} rounds of {options.seconds:g} s.")


def with_logins(url: str, work: Callable[[], Figures]) -> tuple[Figures, dict[str, int]]:
    """Return the result of the work while clients log in, and the statuses of the log-ins."""
    emails = [data.login_email(number) for number in range(1, data.LOGINS + 1)]
    command = [sys.executable, str(HERE / "logins.py"), url, data.PASSWORD, *emails]
    with pinned(LOAD_CORES):
        storm = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert storm.stdout is not None
        storm.stdout.readline()
        figures = work()
        storm.terminate()
        output, _ = storm.communicate(timeout=LOGIN_SECONDS)
    finally:
        storm.kill()
        storm.wait()
    statuses: dict[str, int] = json.loads(output)
    return figures, statuses


def measure_workers(bench: Bench) -> None:
    """One, two and four workers on as many cores, but not on the core of wrk."""
    size = bench.options.small
    loaded = bench.postgres(size)
    workers = QUICK_WORKERS if bench.options.quick else WORKERS
    cores = CORES[: max(1, len(CORES) - 1)]
    if len(cores) < max(workers):
        bench.add_note(
            f"workers: the machine leaves {len(cores)} of its cores to the workers. Where that is "
            "fewer than there are workers, compare the CPU time of a request, not the requests."
        )
    loads = [*make_reads(size), make_discussion(size)]
    contenders = [
        blog_api(loaded, workers=count, cores=frozenset(cores[:count])) for count in workers
    ]
    # All servers together would need more connections than Postgres accepts by default.
    bench.stop()
    with bench.servers(contenders) as running:
        for load in loads:
            compare_loads(bench, "workers", running, [load], writes=load.is_apart)


PARTS: dict[str, Callable[[Bench], None]] = {
    "reads": measure_reads,
    "signed-in": measure_signed_in,
    "create": measure_create,
    "comments": measure_comments,
    "bookmarks": measure_bookmarks,
    "search": measure_search,
    "growth": measure_growth,
    "mixed": measure_mixed,
    "discussion": measure_discussion,
    "page": measure_page,
    "storm": measure_storm,
    "workers": measure_workers,
}
